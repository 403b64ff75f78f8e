"""Raw samples of one process: every call with its begin and end, and which of them belong to the window.

Owns the rules by which calls become samples (`loadtest.samples` says what those are). Knows nothing of users, of
Locust or of the network, and never waits. Times are seconds of one monotonic clock, ``time.perf_counter()`` in
practice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loadtest.samples import ANSWERED, Samples

UNFINISHED = "DeadlineExceededError"  # what a call without an end is: the client would have given up on it
MAX_FAILURE_KINDS = 255  # `Samples.kind` is a uint8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The seconds that count, on the clock of the process."""

    begin_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.end_s - self.begin_s


class CallLog(Protocol):
    """Where calls are noted."""

    def begun(self, begin_s: float, sent_s: float, request_bytes: int) -> int:
        """Notes a call that is being sent; returns what `ended` takes."""

    def ended(self, ticket: int, begin_s: float, end_s: float, failure: str | None, message: str) -> None:
        """Notes its end: ``failure`` is None, or the kind of failure that ``message`` explains."""


class Recorder:
    """Every call of one process.

    Attributes:
        answered: good answers so far.
        failed: failures so far.
        missed_s: intended send times of arrivals that were not sent.
        failure_examples: the first message of each kind of failure.
    """

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.missed_s = array("d")
        self.failure_examples: dict[str, str] = {}
        self._under_way: dict[int, float] = {}
        self._tickets = 0
        self._begin_s = array("d")
        self._latency_s = array("d")
        self._kind = bytearray()
        self._kinds: dict[str, int] = {}
        self._sent_begin_s = array("d")
        self._sent_lag_s = array("d")
        self._sent_bytes = array("L")

    def begun(self, begin_s: float, sent_s: float, request_bytes: int) -> int:
        """Notes a call that is being sent.

        Args:
            begin_s: when it was to be sent; latency counts from here.
            sent_s: when it really is.
            request_bytes: of its body.
        """
        self._sent_begin_s.append(begin_s)
        self._sent_lag_s.append(sent_s - begin_s)
        self._sent_bytes.append(request_bytes)
        self._tickets = ticket = self._tickets + 1
        self._under_way[ticket] = begin_s
        return ticket

    def ended(self, ticket: int, begin_s: float, end_s: float, failure: str | None, message: str) -> None:
        """Notes the end of a call; one that was given up on before is forgotten."""
        if self._under_way.pop(ticket, None) is None:
            return
        self._begin_s.append(begin_s)
        self._latency_s.append(end_s - begin_s)
        if failure is None:
            self._kind.append(ANSWERED)
            self.answered += 1
            return
        self._kind.append(self._index(failure))
        self.failed += 1
        self.failure_examples.setdefault(failure, message)

    def missed(self, intended_s: float) -> None:
        """Notes an arrival that is not sent at all."""
        self.missed_s.append(intended_s)

    def under_way(self, window: Window | None = None) -> int:
        """Calls without an end; only those begun inside the window if there is one."""
        if window is None:
            return len(self._under_way)
        return sum(1 for _ in self._open_calls(window))

    def samples(self, window: Window, now_s: float) -> tuple[Samples, int]:
        """The window's samples, and how many of them are calls without an end, which have waited until ``now_s``."""
        waiting_since_s = np.array(list(self._open_calls(window)), np.float64)
        unfinished_kind = self._index(UNFINISHED) if len(waiting_since_s) else 0
        if len(waiting_since_s):
            text = f"no answer when the cell was ended, after {now_s - waiting_since_s.min():.1f} s"
            self.failure_examples.setdefault(UNFINISHED, text)
        begin_s, latency_s = np.array(self._begin_s), np.array(self._latency_s)
        kind = np.frombuffer(bytes(self._kind), np.uint8)
        inside = _inside(begin_s, window)
        end_s = begin_s + latency_s
        came_inside = (kind == ANSWERED) & (end_s >= window.begin_s) & (end_s <= window.end_s)
        samples = Samples(
            np.concatenate([begin_s[inside], waiting_since_s]) - window.begin_s,
            np.concatenate([latency_s[inside], now_s - waiting_since_s]),
            np.concatenate([kind[inside], np.full(len(waiting_since_s), unfinished_kind, np.uint8)]),
            tuple(self._kinds),
            end_s[came_inside] - window.begin_s,
        )
        return samples, len(waiting_since_s)

    def send_lags_s(self, window: Window) -> Floats:
        """By how much the window's calls were sent late."""
        return np.array(self._sent_lag_s)[_inside(np.array(self._sent_begin_s), window)]

    def missed_sends(self, window: Window) -> int:
        """The window's arrivals that were not sent."""
        return int(_inside(np.array(self.missed_s), window).sum())

    def mean_request_bytes(self, window: Window) -> float:
        """Of the window's requests; 0 without any."""
        sizes = np.array(self._sent_bytes)[_inside(np.array(self._sent_begin_s), window)]
        return float(sizes.mean()) if len(sizes) else 0.0

    def _open_calls(self, window: Window) -> Iterator[float]:
        return (begin_s for begin_s in self._under_way.values() if window.begin_s <= begin_s < window.end_s)

    def _index(self, failure: str) -> int:
        return self._kinds.setdefault(failure, min(len(self._kinds) + 1, MAX_FAILURE_KINDS))


def _inside(begin_s: Floats, window: Window) -> npt.NDArray[np.bool_]:
    return (begin_s >= window.begin_s) & (begin_s < window.end_s)


class NotRecorded:
    """A log that keeps nothing, for Locust's own statistics alone."""

    def begun(self, begin_s: float, sent_s: float, request_bytes: int) -> int:  # noqa: ARG002
        """Keeps nothing."""
        return 0

    def ended(self, ticket: int, begin_s: float, end_s: float, failure: str | None, message: str) -> None:
        """Keeps nothing."""
