"""A request's texts on their way to an answer: what came, what is answered so far, why it failed.

Knows nothing of Triton. Nothing here locks: a request changes only under its queue's lock (``text_queue.py``), and does
not change any more once it is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from .decode import FloatArray

# Codes of a failure, by Triton's names.
INVALID_ARG = "INVALID_ARG"
UNAVAILABLE = "UNAVAILABLE"
INTERNAL = "INTERNAL"
CANCELLED = "CANCELLED"

# What became of a request, as the label of the metric bert_text_requests_total. "invalid" and "cancelled" are the
# caller's doing; the last three reach callers as errors of the server (HTTP 503 and 500).
Outcome = Literal["answered", "invalid", "cancelled", "queue_full", "timed_out", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Failure:
    """Why a request is not answered.

    Attributes:
        code: the name of a Triton error code.
        message: for the caller.
        of_text: whether it is about one text, whose index in the request belongs before the message.
        outcome: what it is counted as.
    """

    code: str
    message: str
    of_text: bool = False
    outcome: Outcome = "failed"

    def at(self, index: int) -> Failure:
        """For the request in which the text stands at ``index``."""
        return replace(self, message=f"TEXT[{index}]: {self.message}", of_text=False) if self.of_text else self


@dataclass(frozen=True)
class Answer:
    """What is known of a text, and what the cache keeps: float32[num_labels], and whether it was cut."""

    values: FloatArray
    truncated: bool


def _nobody(_: TextRequest) -> None:
    """Who answers a request by default."""


@dataclass(eq=False)
class TextRequest:
    """The texts of one request.

    Attributes:
        texts: as received.
        output_names: the outputs that are asked for.
        received_s: when, on `time.monotonic`'s clock.
        deadline_s: until when its texts must have reached the tensor model, on the same clock; None = no limit.
        is_cancelled: whether nobody waits any more; a round trip to the server. Called from any thread.
        respond: sends the result; called once, from any thread, unless the request was settled on arrival.
        failure: why it is not answered; set once.
    """

    texts: Sequence[bytes]
    output_names: Sequence[str] = ()
    received_s: float = 0.0
    deadline_s: float | None = None
    is_cancelled: Callable[[], bool] = bool  # bool() is False
    respond: Callable[[TextRequest], None] = _nobody
    failure: Failure | None = None
    _answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether it has its answers, or its failure."""
        return self.failure is not None or len(self._answers) == len(self.texts)

    def values(self, num_labels: int) -> FloatArray:
        """float32[texts, num_labels] of a request that is settled and has not failed."""
        if not self.texts:
            return np.empty((0, num_labels), dtype=np.float32)
        return np.stack([self._answers[index].values for index in range(len(self.texts))])

    @property
    def truncated(self) -> int:
        """How many of its texts are answered from their first tokens only."""
        return sum(answer.truncated for answer in self._answers.values())

    def answer(self, index: int, answer: Answer) -> bool:
        """The answer of a text; whether that settled the request."""
        if self.settled:
            return False
        self._answers[index] = answer
        return self.settled

    def fail(self, failure: Failure) -> bool:
        """Fail; whether that settled the request."""
        if self.settled:
            return False
        self.failure = failure
        return True
