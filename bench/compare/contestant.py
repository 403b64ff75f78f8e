"""What takes part in the comparison: one row of its table, and how it is started.

A contestant is started once and stays up for the whole run, idle while others are measured. Whatever it needs in
CPU threads goes into processes of its own, never into the process that asks: idle pools of threads there would
disturb the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

IN_PROCESS = "in process"
SERVER = "server"


class Unavailable(Exception):  # noqa: N818 -- it says what the row is, which need not be an error
    """This contestant cannot take part here; the message says why, in a line that goes into the report."""


@dataclass(frozen=True)
class Workload:
    """What every contestant works on.

    Attributes:
        checkpoint: Hugging Face folder (``config.json``, ``model.safetensors``, ``tokenizer.json``, …).
        labels: label names by class index.
        cores: CPU cores for everybody together: the number of threads a contestant computes with.
        texts: what the clients send, each distinct, in order.
        max_length: tokens to which every contestant truncates, special tokens counted.
        model: a key of `bench.models.MODELS`: which of our exports belong to the checkpoint.
    """

    checkpoint: Path
    labels: Sequence[str]
    cores: int
    texts: Sequence[str]
    max_length: int
    model: str = "bert-base"


class Answerer(Protocol):
    """A contestant that is up."""

    def classify(self, text: str) -> str:
        """One text to one label; called from many threads at once. Any exception counts as a failed request.

        It must give up by itself on an answer that never comes (`http_client.TIMEOUT_S`). An attribute ``detail``, if
        there is one, is a string with what was decided at the start; the report adds it to the settings.
        """
        ...


@runtime_checkable
class BulkAnswerer(Answerer, Protocol):
    """One that takes the whole list and makes its batches itself: measured with one call, so without latencies."""

    def classify_all(self, texts: Sequence[str]) -> list[str]:
        """All texts to their labels, in order; called from one thread."""
        ...


@dataclass(frozen=True)
class Contestant:
    """One row.

    Attributes:
        name: of the row, unique; ``--rows`` selects by it.
        settings: begins with ``"defaults"`` where nothing was tuned, else says what was.
        where: `IN_PROCESS` or `SERVER`.
        start: starts it, ready to answer, with the text classifier of ``workload.checkpoint``. Entering the context
            manager raises `Unavailable` if it cannot be installed or started here; leaving it ends every process.
        precision: of its matrix products; the answers of ``"fp32"`` rows are held to the checkpoint's own.
    """

    name: str
    settings: str
    where: str
    start: Callable[[Workload], AbstractContextManager[Answerer]]
    precision: str = "fp32"
