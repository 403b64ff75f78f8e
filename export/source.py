"""What is exported: a checkpoint, or an ONNX file that exists already, seen in one way.

With a checkpoint, the reference that every precision is held to is the checkpoint in PyTorch. With an ONNX file alone
it is that file, run by ONNX Runtime without any optimisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import checkpoint as checkpoints
from export import onnx as graphs
from export.errors import CheckpointError, UsageError
from export.evaluation import Classifier, onnx_classifier, torch_classifier
from export.fuse import Shape
from export.hub import resolve
from export.manifest import CheckpointSource, ModelArchitecture, sha256_file
from export.text_side import TextSide, architecture_of, load_text_side


@dataclass(frozen=True)
class Source:
    """Something to export.

    Attributes:
        text: tokenizer, labels and limits.
        inputs: the tensors that the graph takes.
        origin: where it came from.
        shape: what the optimiser should know.
        write: writes the unfused FP32 graph to a file.
        reference: what the precisions are compared with; called with the file that ``write`` wrote.
        architecture: what the config says the model is; None where there is no config.
    """

    text: TextSide
    inputs: tuple[str, ...]
    origin: CheckpointSource
    shape: Shape
    write: Callable[[Path], None]
    reference: Callable[[Path], Classifier]
    architecture: ModelArchitecture | None = None


def open_source(
    *,
    task: str,
    model: str | None,
    onnx: Path | None,
    tokenizer: str | None,
    revision: str | None,
    labels: tuple[str, ...] | None,
    max_length: int | None,
) -> Source:
    """Opens what is to be exported: ``model``, or ``onnx`` with ``tokenizer`` (or with the ``model`` it was made from).

    Raises:
        UsageError: neither is given, or something that one of them needs is missing.
        CheckpointError: it cannot be loaded, or was made for another task (TaskError).
        LabelError: its labels are incomplete.
    """
    if onnx is not None and model is None:
        if tokenizer is None:
            raise UsageError("--tokenizer", None, "the folder with the tokenizer (and config.json) of --onnx")
        return _from_onnx(onnx, tokenizer, task, labels, max_length)
    if model is None:
        raise UsageError("--model", None, "a checkpoint folder, a hub id, or --onnx with --tokenizer")
    if labels is not None:
        raise UsageError("--labels", " ".join(labels), "nothing, with --model: its config.json names the labels")
    loaded = checkpoints.load(model, task=task, revision=revision, tokenizer=tokenizer, max_length=max_length)
    architecture = loaded.architecture
    shape = Shape(architecture.heads, architecture.hidden_size)

    def reference(_: Path) -> Classifier:
        return torch_classifier(loaded.model)

    if onnx is None:
        return Source(
            loaded.text,
            loaded.inputs,
            loaded.origin,
            shape,
            lambda path: graphs.export(loaded, path),
            reference,
            architecture,
        )
    # The graph is taken in and the checkpoint it was made from judges it.
    given = graphs.read(onnx, len(loaded.text.labels))
    return Source(loaded.text, given.inputs, loaded.origin, shape, given.write, reference, architecture)


def _from_onnx(path: Path, tokenizer: str, task: str, labels: tuple[str, ...] | None, max_length: int | None) -> Source:
    config = _config(tokenizer, task, labels)
    text = load_text_side(tokenizer, config, labels=labels, max_length=max_length)
    given = graphs.read(path, len(text.labels))
    architecture = architecture_of(config) if config is not None else None
    shape = Shape(architecture.heads, architecture.hidden_size) if architecture else Shape()

    def reference(raw: Path) -> Classifier:
        return onnx_classifier(raw, 1, optimise=False)

    origin = CheckpointSource(str(path), None, sha256_file(path), None)
    return Source(text, given.inputs, origin, shape, given.write, reference, architecture)


def _config(tokenizer: str, task: str, labels: tuple[str, ...] | None) -> Any:
    """The config.json beside the tokenizer, which may be missing if ``labels`` are named."""
    folder, _ = resolve(tokenizer)
    if not (folder / "config.json").is_file():
        return None
    try:
        config = checkpoints.load_config(folder, tokenizer)
    except CheckpointError:
        if labels is None:
            raise
        return None
    if labels is None:
        checkpoints.check_task(config, task, tokenizer)
    return config
