"""What a text model's ``config.pbtxt`` says, parsed and checked.

Owns the names, types and defaults of the ``parameters`` and the rules between them. Reads no files
(``version_folder.py`` does) and knows nothing of Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .decode import ACTIVATIONS, TASKS, Task
from .tensors import INPUT_IDS, TENSOR_INPUTS

OVER_LONG_TEXT = ("error", "truncate")


class SettingsError(ValueError):
    """The model's config cannot be served; the message says what to change."""


@dataclass(frozen=True)
class Settings:
    """One text model, as its config describes it.

    Attributes:
        model: the text model's own name, for messages.
        task: the row of `TASKS` it serves.
        tensor_model: the model that is called with token ids.
        tensor_inputs: which of `TENSOR_INPUTS` that model takes.
        tensor_output: which of its outputs is decoded.
        max_length: most tokens of one text, special tokens included.
        over_long_text: ``error`` or ``truncate``.
        max_text_bytes: a longer text is refused before it is tokenised.
        max_tokens: most tokens of one call of the tensor model; padding counts unless it is ``packed``.
        packed: whether the tensor model drops the padding before it computes.
        calls_in_flight: calls of the tensor model under way at once: one computes while the next is already in its
            queue. With more instances of the tensor model, one more than those. (More would sit in that queue together,
            where Triton merges equal shapes and undoes the layout.)
        cache_size: texts whose answer is kept; 0 = off.
        max_queue_size: while so many texts wait, a request that needs another one computed is refused; 0 = never.
        queue_timeout_ms: how long a request may wait, whatever longer its caller allows; 0 = for ever.
        pad_token_id: fills short rows of ``input_ids``.
        max_batch_size: most texts of one dynamic batch, and so most rows of one call of the tensor model.
        activation: what turns the tensor output into values; a key of `ACTIVATIONS`.
    """

    model: str
    task: Task
    tensor_model: str
    tensor_inputs: tuple[str, ...]
    tensor_output: str
    max_length: int
    over_long_text: str
    max_text_bytes: int
    max_tokens: int
    cache_size: int
    pad_token_id: int
    max_batch_size: int
    activation: str | None = None
    packed: bool = False
    calls_in_flight: int = 2
    max_queue_size: int = 0
    queue_timeout_ms: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.tensor_inputs if name not in TENSOR_INPUTS]
        if unknown or INPUT_IDS not in self.tensor_inputs or len(set(self.tensor_inputs)) != len(self.tensor_inputs):
            raise SettingsError(
                f"tensor_inputs is {','.join(self.tensor_inputs)!r}; expected {INPUT_IDS} and at most once each of "
                f"{', '.join(TENSOR_INPUTS[1:])}, separated by commas"
            )
        if self.over_long_text not in OVER_LONG_TEXT:
            raise SettingsError(
                f"over_long_text is {self.over_long_text!r}; expected one of {', '.join(OVER_LONG_TEXT)}"
            )
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise SettingsError(f"activation is {self.activation!r}; expected one of {', '.join(sorted(ACTIVATIONS))}")
        if self.tensor_model == self.model:
            raise SettingsError(f"tensor_model is {self.tensor_model!r}, the text model itself; name the tensor model")

    @classmethod
    def from_model_config(cls, config: dict[str, Any]) -> Settings:
        """Read the model config that Triton hands over.

        Raises:
            SettingsError: a parameter is missing, unknown, not of its type, or contradicts another.
        """
        parameters = _Parameters(config)
        max_batch_size = int(config.get("max_batch_size", 0))
        if max_batch_size < 1:
            raise SettingsError(f"max_batch_size is {max_batch_size}; a bert_text model needs at least 1")
        settings = cls(
            model=str(config.get("name", "")),
            task=parameters.task(),
            tensor_model=parameters.text("tensor_model"),
            tensor_inputs=tuple(name.strip() for name in parameters.text("tensor_inputs").split(",")),
            tensor_output=parameters.text("tensor_output", "logits"),
            max_length=parameters.integer("max_length", minimum=1),
            over_long_text=parameters.text("over_long_text", "error"),
            max_text_bytes=parameters.integer("max_text_bytes", 100_000, minimum=1),
            max_tokens=parameters.integer("max_tokens", 512, minimum=1),
            cache_size=parameters.integer("cache_size", 10_000, minimum=0),
            pad_token_id=parameters.integer("pad_token_id", minimum=0),
            max_batch_size=max_batch_size,
            activation=parameters.optional("activation"),
            packed=parameters.boolean("packed"),
            calls_in_flight=parameters.integer("calls_in_flight", 2, minimum=1),
            max_queue_size=parameters.integer("max_queue_size", 0, minimum=0),
            queue_timeout_ms=parameters.integer("queue_timeout_ms", 0, minimum=0),
        )
        parameters.refuse_unread()
        return settings


class _Parameters:
    """``parameters`` of a model config, read by name; remembers what was read."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._values = {key: str(value["string_value"]) for key, value in config.get("parameters", {}).items()}
        self._read: set[str] = set()

    def optional(self, key: str) -> str | None:
        self._read.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.optional(key)
        if value is None:
            value = default
        if not value:
            raise SettingsError(f"parameter {key} is missing; `python -m export` writes it into config.pbtxt")
        return value

    def integer(self, key: str, default: int | None = None, *, minimum: int) -> int:
        text = self.text(key, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            raise SettingsError(f"parameter {key} is {text!r}; expected a whole number") from None
        if value < minimum:
            raise SettingsError(f"parameter {key} is {value}; expected at least {minimum}")
        return value

    def boolean(self, key: str) -> bool:
        """``true`` or ``false``; false when it is not there."""
        text = self.text(key, "false")
        if text not in ("true", "false"):
            raise SettingsError(f"parameter {key} is {text!r}; expected true or false")
        return text == "true"

    def task(self) -> Task:
        name = self.text("task")
        if name not in TASKS:
            raise SettingsError(f"task is {name!r}; this bert_text serves {', '.join(sorted(TASKS))}")
        return TASKS[name]

    def refuse_unread(self) -> None:
        # Upper-case names belong to Triton's Python backend (FORCE_CPU_ONLY_INPUT_TENSORS, ...).
        unknown = sorted(key for key in self._values if key not in self._read and not key.isupper())
        if unknown:
            raise SettingsError(f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(self._read))}")
