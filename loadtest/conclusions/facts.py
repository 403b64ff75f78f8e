"""What a model repository on this machine says of its models: what kind of BERT, how large, which tokenizer and labels.

Owns reading those files; nothing here talks to a server. A repository that `python -m export` wrote says the most; of
any other the size of its ``model.onnx`` is known. What is missing is "unknown" (None or ""), never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import (
    CONFIG_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PARAM_MAX_LENGTH,
    PARAM_PAD_TOKEN_ID,
    PARAM_TENSOR_MODEL,
    TOKENIZER_FILE,
)
from loadtest.errors import UsageError

DEFAULT_REPOSITORY = Path("model_repository")

# (model_type, layers, hidden size) as the checkpoint's config states them -> the name that people use. MiniLM, for
# example, is a BertModel of other sizes and is called by them.
NAMES = {
    ("bert", 12, 768): "BERT-base",
    ("bert", 24, 1024): "BERT-large",
    ("bert", 2, 128): "BERT-tiny",
    ("distilbert", 6, 768): "DistilBERT",
    ("roberta", 12, 768): "RoBERTa-base",
    ("roberta", 24, 1024): "RoBERTa-large",
}


def architecture_name(model_type: str, layers: int, hidden_size: int) -> str:
    """What people call an architecture: ``BERT-base``, or ``bert 6 x 384`` where it has no name of its own."""
    return NAMES.get((model_type, layers, hidden_size), f"{model_type} {layers} x {hidden_size}")


@dataclass(frozen=True)
class TextSide:
    """What turns labelled text into tensors and answers into labels.

    Attributes:
        tokenizer: a ``tokenizer.json``; None if there is none.
        labels: names, index = id; empty if unknown.
        max_length: most tokens of one text, special tokens included; None if unknown.
        pad_token_id: fills up shorter texts; None if unknown.
    """

    tokenizer: Path | None = None
    labels: tuple[str, ...] = ()
    max_length: int | None = None
    pad_token_id: int | None = None


class Repository:
    """A folder of models as Triton reads it, or no folder at all (``path`` None), of which nothing is known."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def given(cls, path: Path | None, *, server_is_here: bool) -> Repository:
        """The repository that was named; else ``./model_repository`` if it is there and the server is on this machine.

        Raises:
            UsageError: what was named is no folder.
        """
        if path is None:
            return cls(DEFAULT_REPOSITORY if server_is_here and DEFAULT_REPOSITORY.is_dir() else None)
        if not path.is_dir():
            raise UsageError(
                f"--repository {path}: no such folder; expected the model repository that the server serves"
            )
        return cls(path)

    def size_bytes(self, model: str, version: str) -> int | None:
        """The size of the ONNX file of a tensor model; None if it is not here."""
        folder = self._version(model, version)
        file = folder / MODEL_FILE if folder is not None else None
        return file.stat().st_size if file is not None and file.is_file() else None

    def architecture(self, model: str, version: str) -> str:
        """What the manifest of a tensor model says it is; "" if there is none or it does not say."""
        folder = self._version(model, version)
        stated: Any = _json(folder / MANIFEST_FILE).get("architecture") if folder is not None else None
        try:
            return architecture_name(str(stated["model_type"]), int(stated["layers"]), int(stated["hidden_size"]))
        except (KeyError, TypeError, ValueError):
            return ""

    def text_side(self, model: str, version: str) -> TextSide:
        """Tokenizer, labels and limits: a text model's own, or those of the text model that a tensor model belongs to.

        That is the text model whose config names this tensor model, else the one whose name it begins with.
        """
        owner = model if self._is_text_model(model) else self._owner(model)
        folder = self._version(owner, version) if owner is not None else None
        if owner is None or folder is None:
            return TextSide()
        config = "\n".join(self._configs(owner))
        tokenizer = folder / TOKENIZER_FILE
        return TextSide(
            tokenizer if tokenizer.is_file() else None,
            _labels(folder / LABELS_FILE),
            _number(config, PARAM_MAX_LENGTH),
            _number(config, PARAM_PAD_TOKEN_ID),
        )

    def _is_text_model(self, model: str) -> bool:
        return self.path is not None and any((self.path / model).glob(f"[0-9]*/{TOKENIZER_FILE}"))

    def _owner(self, tensor_model: str) -> str | None:
        if self.path is None:
            return None
        names = sorted({file.parent.parent.name for file in self.path.glob(f"*/[0-9]*/{TOKENIZER_FILE}")})
        naming = [name for name in names if tensor_model in map(_tensor_model, self._configs(name))]
        prefixes = sorted((name for name in names if tensor_model.startswith(f"{name}_")), key=len, reverse=True)
        return next(iter(naming + prefixes), None)

    def _configs(self, model: str) -> Iterator[str]:
        """The text of a model's configs, the one for the CPU and the one for the GPU included."""
        folder = (self.path or Path()) / model
        for path in (folder / CONFIG_FILE, *sorted((folder / "configs").glob("*.pbtxt"))):
            if path.is_file():
                yield path.read_text(encoding="utf-8", errors="replace")

    def _version(self, model: str, version: str) -> Path | None:
        """The folder of the version that is served; the newest if the server does not say which."""
        if self.path is None:
            return None
        folders = [folder for folder in (self.path / model).glob("[0-9]*") if folder.name.isdigit() and folder.is_dir()]
        served = [folder for folder in folders if folder.name == version] if version else folders
        return max(served, key=lambda folder: int(folder.name), default=None)


def _parameters(config: str) -> dict[str, str]:
    """The string parameters of a config.pbtxt (its text format needs no more than this for what is asked here)."""
    pattern = r'key:\s*"([^"]*)"\s*,?\s*value:?\s*[{<]\s*string_value:\s*"([^"]*)"'
    return dict(re.findall(pattern, config))


def _tensor_model(config: str) -> str | None:
    return _parameters(config).get(PARAM_TENSOR_MODEL)


def _number(config: str, name: str) -> int | None:
    value = _parameters(config).get(name, "")
    return int(value) if value.isdigit() else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _labels(path: Path) -> tuple[str, ...]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(labels) if isinstance(labels, list) and all(isinstance(label, str) for label in labels) else ()
