"""What a ``config.pbtxt`` says that decides which versions are served, and how: read without protobuf.

Triton's configs are protobuf in text form. Only its grammar is known here, not its fields: a message is a dict from a
field's name to the list of its values (a message, a string, or another value's word). What Triton makes of a config is
Triton's business; nothing is checked that is not needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import CONFIG_FILE, PARAM_TENSOR_MODEL, TEXT_BACKEND
from server.errors import RepositoryError

CONFIGS_FOLDER = "configs"
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*                                              # between tokens
    | (?P<string>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
    | (?P<word>[-+]?[\w.]+)
    | (?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}


@dataclass(frozen=True)
class ModelConfig:
    """One model's config.

    Attributes:
        backend: for example ``bert_text``; empty where Triton finds it out itself.
        signature: its backend, inputs and outputs, in words: what must not change under those who call the model.
        tensor_model: what a text model calls; empty for other models.
        latest: how many of the newest versions are served; 0 where the policy is another one.
        specific: the versions that are served; empty where the policy is another one.
    """

    backend: str = ""
    signature: str = ""
    tensor_model: str = ""
    latest: int = 1  # Triton's default
    specific: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path, config_name: str | None = None) -> ModelConfig:
        """The config that Triton uses for the model in ``folder``.

        Args:
            folder: of the model.
            config_name: of ``--model-config-name``.

        Raises:
            RepositoryError: it cannot be read.
        """
        named = folder / CONFIGS_FOLDER / f"{config_name}.pbtxt"
        path = named if config_name and named.is_file() else folder / CONFIG_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()  # Triton completes it
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {exc}; fix it, or export the model again") from exc
        try:
            return cls.from_message(parse(text))
        except (ValueError, SyntaxError, LookupError, TypeError, AttributeError) as exc:
            raise RepositoryError(f"{path} is not a model config: {exc}; fix it, or export the model again") from exc

    @classmethod
    def from_message(cls, message: dict[str, list[Any]]) -> ModelConfig:
        """Picks from a parsed config.

        Raises:
            ValueError, LookupError, TypeError or AttributeError: a field is not what it should be.
        """
        backend = str(message.get("backend", message.get("platform", [""]))[-1])
        parameters = {entry["key"][-1]: entry["value"][-1] for entry in message.get("parameters", [])}
        tensor_model = parameters.get(PARAM_TENSOR_MODEL, {}).get("string_value", [""])[-1]
        policy = message.get("version_policy", [{}])[-1]
        latest = int(policy.get("latest", [{}])[-1].get("num_versions", ["1"])[-1])
        specific = tuple(int(version) for version in policy.get("specific", [{}])[-1].get("versions", []))
        return cls(
            backend=backend,
            signature=_signature(backend, message),
            tensor_model=tensor_model if backend == TEXT_BACKEND else "",
            latest=0 if specific or "all" in policy else latest,
            specific=specific,
        )

    @property
    def is_text(self) -> bool:
        """Whether it is a text model."""
        return self.backend == TEXT_BACKEND

    def served(self, versions: Sequence[int]) -> tuple[int, ...]:
        """Which of ``versions``, in ascending order, Triton serves."""
        if self.specific:
            return tuple(version for version in versions if version in self.specific)
        return tuple(versions[-self.latest :]) if self.latest else tuple(versions)


def _signature(backend: str, message: dict[str, list[Any]]) -> str:
    tensors = [
        f"{side} {tensor['name'][-1]} {tensor.get('data_type', ['?'])[-1]} [{', '.join(tensor.get('dims', []))}]"
        for side in ("input", "output")
        for tensor in message.get(side, [])
    ]
    return "; ".join([f"backend {backend or 'unknown'}", *tensors])


def parse(text: str) -> dict[str, list[Any]]:
    """The fields of a message in protobuf's text form.

    Raises:
        ValueError: it is not one; says where.
    """
    tokens = list(_tokens(text))
    fields, rest = _message(tokens, 0, "")
    if rest != len(tokens):
        raise ValueError(f"{tokens[rest][1]!r} belongs to nothing")
    return fields


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: cannot read {text[at : at + 20]!r}")
        if match.lastgroup:
            yield match.lastgroup, match[0]
        at = match.end()


def _message(tokens: Sequence[tuple[str, str]], at: int, end: str) -> tuple[dict[str, list[Any]], int]:
    """The fields from ``at`` up to the mark ``end``, and what comes after it."""
    fields: dict[str, list[Any]] = {}
    while (kind := _at(tokens, at)) != ("mark", end) and not (at == len(tokens) and not end):
        if kind[0] != "word":
            raise ValueError(f"expected a field's name, found {kind[1]!r}")
        at += 1
        if _at(tokens, at) == ("mark", ":"):
            at += 1
        if _at(tokens, at) == ("mark", "["):
            values, at = _list(tokens, at + 1)
        else:
            value, at = _value(tokens, at)
            values = [value]
        fields.setdefault(kind[1], []).extend(values)
        if _at(tokens, at) in (("mark", ","), ("mark", ";")):
            at += 1
    return fields, at + bool(end)


def _list(tokens: Sequence[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    while _at(tokens, at) != ("mark", "]"):
        value, at = _value(tokens, at)
        values.append(value)
        if _at(tokens, at) == ("mark", ","):
            at += 1
    return values, at + 1


def _value(tokens: Sequence[tuple[str, str]], at: int) -> tuple[Any, int]:
    kind, token = _at(tokens, at)
    if token in _CLOSING and kind == "mark":
        return _message(tokens, at + 1, _CLOSING[token])
    if kind == "word":
        return token, at + 1
    if kind != "string":
        raise ValueError(f"expected a value, found {token!r}")
    text = ""
    while _at(tokens, at)[0] == "string":  # neighbours are one string
        text += ast.literal_eval(tokens[at][1])
        at += 1
    return text, at


def _at(tokens: Sequence[tuple[str, str]], at: int) -> tuple[str, str]:
    if at < len(tokens):
        return tokens[at]
    return "end", "the end"
