"""The base checkpoint: its tokenizer, and its model with a classification head for our labels.

Owns what makes a base usable: a whole encoder (nothing of it may be missing), a tokenizer that neither cuts nor pads by
itself, and a head that fits the labels. torch and transformers are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_POOLER = "pooler"
_REASON_CHARS = 300
_CUTTING_AND_PADDING = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


@dataclass(frozen=True)
class Base:
    """A loaded base checkpoint.

    Attributes:
        new_modules: names of the modules whose weights training has to make from nothing or anew: the head, and the
            pooler if the base has none.
    """

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    new_modules: tuple[str, ...]


def load(base: str, labels: Sequence[str], *, seed: int) -> Base:
    """Loads ``base``, a folder or a hub id, with a head for ``labels``.

    Raises:
        BaseModelError: there is no such base, a file of it is broken, or it is not a whole encoder.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(base)
    torch.manual_seed(seed)  # a new head starts from random weights
    with _quiet(), _told(base):
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return Base(tokenizer, model, _new_modules(base, model, loading["missing_keys"]))


def load_tokenizer(base: str) -> PreTrainedTokenizerFast:
    """The base's tokenizer, with truncation and padding off and ``model_max_length`` set to what the model takes."""
    from transformers import AutoConfig, AutoTokenizer

    if _looks_like_folder(base) and not (Path(base) / "config.json").is_file():
        raise BaseModelError(
            f"no checkpoint in {base}: expected a folder with config.json, model.safetensors and a tokenizer"
        )
    with _quiet(), _told(base):
        config = AutoConfig.from_pretrained(base)
        tokenizer = AutoTokenizer.from_pretrained(base, use_fast=True)
    if not tokenizer.is_fast:
        raise BaseModelError(f"{base} has no tokenizer.json and none can be made from what it has: serving needs one")
    # Both are state inside tokenizer.json, and would be saved with it, and again in tokenizer_config.json.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in _CUTTING_AND_PADDING:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.model_max_length = min(tokenizer.model_max_length, max_positions(config))
    return tokenizer


def max_positions(config: Any) -> int:
    """The longest sequence, in tokens, that a model with this configuration takes."""
    positions: int = getattr(config, "max_position_embeddings", 512)
    # RoBERTa and its relatives number positions from pad_token_id + 1.
    offset = config.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0
    return positions - offset


_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


def _new_modules(base: str, model: Any, missing_keys: Sequence[str]) -> tuple[str, ...]:
    encoder = model.base_model_prefix
    new = [name for name, child in model.named_children() if name != encoder and any(True for _ in child.parameters())]
    lost = [key for key in missing_keys if key.startswith(f"{encoder}.") and f".{_POOLER}." not in key]
    if lost:
        raise BaseModelError(
            f"{base} lacks {len(lost)} weights of its {model.config.model_type} encoder (e.g. {min(lost)}): "
            "the checkpoint is not whole, or its config.json belongs to another model"
        )
    if any(f".{_POOLER}." in key for key in missing_keys):
        new.append(f"{encoder}.{_POOLER}.dense")
    return tuple(new)


def _looks_like_folder(base: str) -> bool:
    return Path(base).exists() or base.startswith((".", "/", "~")) or base.count("/") > 1


@contextmanager
def _told(base: str) -> Iterator[None]:
    """Turns what transformers raises about an unusable checkpoint into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        reason = " ".join(str(exc).split())[:_REASON_CHARS]
        what = f"cannot load {base}" if Path(base).exists() else f"no folder {base}, and none on the hub either"
        raise BaseModelError(f"{what}: {reason}") from exc


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' warning that a new head is new: that is what training is for."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
