"""Loads a fine-tuned BERT-family checkpoint: weights, tokenizer, labels, and where they came from.

Owns what is known about the supported architectures and every way a checkpoint can be unfit. Code that
comes with a checkpoint is never run. It knows nothing of ONNX; `export.onnx` takes it from here.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import TASKS, TENSOR_INPUTS
from export.errors import CheckpointError, TaskError
from export.hub import first_line, quiet, resolve, weights_and_licence
from export.manifest import CheckpointSource, ModelArchitecture
from export.text_side import ARCHITECTURES, TextSide, architecture_of, load_text_side


@dataclass(frozen=True)
class Checkpoint:
    """A loaded sequence classifier.

    Attributes:
        model: the PyTorch model, in evaluation mode, FP32, eager attention (the only one that fuses).
        config: its `transformers` configuration.
        text: tokenizer, labels and limits.
        inputs: the tensors it takes, in the order of `contract.TENSOR_INPUTS`.
        origin: name, revision, hash, licence.
    """

    model: Any
    config: Any
    text: TextSide
    inputs: tuple[str, ...]
    origin: CheckpointSource

    @property
    def architecture(self) -> ModelArchitecture:
        """What its configuration says it is."""
        return architecture_of(self.config)


def load(
    name: str,
    *,
    task: str = "text-classification",
    revision: str | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
) -> Checkpoint:
    """Loads checkpoint ``name``, a folder or the name of a model on the Hugging Face hub.

    Args:
        name: the folder or hub id.
        task: a task of `contract.TASKS`.
        revision: branch, tag or commit on the hub.
        tokenizer: another folder or hub id to take the tokenizer from.
        max_length: serve at most this many tokens (default: what the model was made for).

    Raises:
        CheckpointError: there is no such model, it is not one of `ARCHITECTURES`, or files are missing or damaged.
        TaskError: the checkpoint was not fine-tuned for ``task``.
        LabelError: its labels are incomplete or not distinct.
    """
    folder, commit = resolve(name, revision)
    config = load_config(folder, name)
    check_task(config, task, name)
    model = _load_model(folder, config, task, name)
    text = load_text_side(tokenizer or str(folder), config, max_length=max_length)
    return Checkpoint(
        model, config, text, _inputs(config), CheckpointSource(name, commit, *weights_and_licence(folder))
    )


def load_config(folder: Path, name: str) -> Any:
    """The `transformers` configuration in ``folder``.

    Raises:
        CheckpointError: it is missing, unreadable or of an architecture that is not in `ARCHITECTURES`.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(
            f"{name} has no usable config.json: {first_line(exc)}; expected a folder that `save_pretrained` wrote"
        ) from exc
    if config.model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"{name} is a {config.model_type} model; supported are {', '.join(ARCHITECTURES)} (MiniLM is bert)"
        )
    kind = getattr(config, "position_embedding_type", "absolute")
    if kind != "absolute":
        raise CheckpointError(f"{name} has {kind} position embeddings; only absolute ones can be fused")
    return config


def check_task(config: Any, task: str, name: str) -> None:
    """Raises TaskError unless ``config`` is of a checkpoint fine-tuned for ``task`` with one label per text."""
    head = TASKS[task].auto_class.removeprefix("AutoModel")
    classes = config.architectures or []
    if classes and not any(architecture.endswith(head) for architecture in classes):
        raise TaskError(
            f"{name} is a {', '.join(classes)}; --task {task} needs a checkpoint fine-tuned with a ...{head} head"
        )
    if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
        raise TaskError(
            f"{name} has {config.num_labels} label(s) and problem_type {config.problem_type}; "
            f"--task {task} gives every text exactly one of at least two labels"
        )


def _load_model(folder: Path, config: Any, task: str, name: str) -> Any:
    import torch
    import transformers
    from safetensors import SafetensorError

    auto_class = getattr(transformers, TASKS[task].auto_class)
    damaged = (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError)
    try:
        with quiet(transformers):
            model, info = auto_class.from_pretrained(
                folder,
                config=config,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
            )
    except (*damaged, pickle.UnpicklingError, zipfile.BadZipFile) as exc:
        raise CheckpointError(
            f"the weights of {name} cannot be read ({type(exc).__name__}: {first_line(exc)}); "
            "the file is missing, truncated or damaged: copy or download the checkpoint again"
        ) from exc
    _check_weights(model, info, name, torch)
    return model.eval()


def _check_weights(model: Any, info: dict[str, Any], name: str, torch: Any) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        what = (
            "the classification head"
            if all(key.startswith(("classifier", "pre_classifier")) for key in missing)
            else "weights"
        )
        raise TaskError(
            f"{name} lacks {what} ({', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}); they would be "
            "random numbers: export a checkpoint that was fine-tuned and saved whole"
        )
    if info["mismatched_keys"]:
        key, found, expected = info["mismatched_keys"][0]
        raise CheckpointError(f"{name}: {key} has shape {tuple(found)} where config.json says {tuple(expected)}")
    for key, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{name}: {key} holds values that are not finite; the checkpoint is damaged")


def _inputs(config: Any) -> tuple[str, ...]:
    # A type vocabulary of one (RoBERTa) or none (DistilBERT) leaves nothing for the caller to say.
    uses_types = getattr(config, "type_vocab_size", 0) > 1
    return TENSOR_INPUTS if uses_types else TENSOR_INPUTS[:2]
