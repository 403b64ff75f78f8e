"""The text side of a model: its tokenizer, labels and limits; all that a text model in the repository is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import CheckpointError, LabelError
from export.hub import first_line, quiet, resolve
from export.manifest import ModelArchitecture

# Longer than any position table: transformers writes 1e30 when a tokenizer states no limit.
NO_LIMIT = 10**6


@dataclass(frozen=True)
class Architecture:
    """A row of `ARCHITECTURES`: where a model type keeps the numbers that export needs.

    Attributes:
        num_heads: the config attribute with the number of attention heads.
        hidden_size: the config attribute with the hidden size.
        num_layers: the config attribute with the number of layers.
        positions_start_after_padding: positions count from ``pad_token_id + 1`` on (RoBERTa), so that the
            position table holds that many tokens fewer than it has rows.
    """

    num_heads: str = "num_attention_heads"
    hidden_size: str = "hidden_size"
    num_layers: str = "num_hidden_layers"
    positions_start_after_padding: bool = False


_ROBERTA = Architecture(positions_start_after_padding=True)

# By `model_type` of config.json. MiniLM checkpoints are BertModels.
ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(),
    "electra": Architecture(),
    "distilbert": Architecture(num_heads="n_heads", hidden_size="dim", num_layers="n_layers"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
}


def architecture_of(config: Any) -> ModelArchitecture:
    """What ``config``, of a type in `ARCHITECTURES`, says of the model's kind and size."""
    names = ARCHITECTURES[config.model_type]
    return ModelArchitecture(
        config.model_type,
        layers=int(getattr(config, names.num_layers)),
        hidden_size=int(getattr(config, names.hidden_size)),
        heads=int(getattr(config, names.num_heads)),
    )


@dataclass(frozen=True)
class TextSide:
    """What is needed to turn text into tensors and logits into labels; all that a text model is made of.

    Attributes:
        tokenizer: a fast `transformers` tokenizer.
        labels: label names, index = id.
        max_length: most tokens of one text, special tokens included.
        pad_token_id: fills a batch up to its longest text.
    """

    tokenizer: Any
    labels: tuple[str, ...]
    max_length: int
    pad_token_id: int

    @property
    def generic_labels(self) -> bool:
        """Whether the labels are the names that transformers makes up (LABEL_0, ...)."""
        return self.labels == tuple(f"LABEL_{index}" for index in range(len(self.labels)))

    def tokenizer_json(self) -> str:
        """The text of tokenizer.json, with truncation and padding switched off."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        return backend.to_str(pretty=True)


def load_text_side(
    source: str, config: Any | None, *, labels: tuple[str, ...] | None = None, max_length: int | None = None
) -> TextSide:
    """Tokenizer, labels and limits from folder or hub id ``source`` and the model's ``config`` (if there is one).

    Raises:
        CheckpointError: there is no fast tokenizer, it does not fit the model, or ``max_length`` is more than it takes.
        LabelError: the labels are incomplete or not distinct, or nothing names them.
    """
    folder, _ = resolve(source)
    tokenizer = _load_tokenizer(folder, source)
    if config is not None and max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {source} has {len(tokenizer)} tokens, the model's vocabulary {config.vocab_size}: "
            "they do not belong together"
        )
    limit = _max_length(tokenizer, config, source) if max_length is None or config is not None else max_length
    if max_length is not None and not 2 < max_length <= limit:
        raise CheckpointError(f"--max-length {max_length} is not possible: {source} takes 3 to {limit} tokens")
    return TextSide(tokenizer, labels or _labels(config, source), max_length or limit, tokenizer.pad_token_id)


def _load_tokenizer(folder: Path, name: str) -> Any:
    import transformers

    try:
        with quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as exc:
        raise CheckpointError(
            f"{name} has no usable tokenizer ({type(exc).__name__}: {first_line(exc)}); expected tokenizer.json or the "
            "vocabulary files; --tokenizer takes it from another folder"
        ) from exc
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{name} has only a slow tokenizer ({type(tokenizer).__name__}), which cannot be written as "
            "tokenizer.json; --tokenizer takes a fast one from another folder"
        )
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"the tokenizer of {name} has no padding token, so texts cannot share a batch")
    return tokenizer


def _max_length(tokenizer: Any, config: Any | None, name: str) -> int:
    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < NO_LIMIT else []
    if config is not None:
        unused = config.pad_token_id + 1 if ARCHITECTURES[config.model_type].positions_start_after_padding else 0
        limits.append(int(config.max_position_embeddings) - unused)
    if not limits:
        raise CheckpointError(f"nothing in {name} says how many tokens a text may have; say so with --max-length")
    return min(limits)


def _labels(config: Any | None, name: str) -> tuple[str, ...]:
    if config is None:
        raise LabelError(f"{name} has no config.json that names the labels; name them with --labels")
    names = {int(index): str(label) for index, label in config.id2label.items()}
    if sorted(names) != list(range(config.num_labels)):
        raise LabelError(f"{name} names the labels of ids {sorted(names)}; expected ids 0 to {config.num_labels - 1}")
    labels = tuple(names[index] for index in range(config.num_labels))
    if len(set(labels)) < len(labels):
        raise LabelError(
            f"{name} has labels that are not distinct: {', '.join(labels)}; correct id2label in config.json"
        )
    return labels
