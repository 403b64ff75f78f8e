"""How texts become requests, and how long a request may take. Pure: no I/O, no clock of its own.

Owns the splitting of texts into chunks, deadline arithmetic and the pauses between retries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .config import ClientConfig
from .errors import DeadlineExceededError, InvalidTextError, NotReadyError, OverloadedError, ServerUnreachableError

# What may be tried again: the request was refused before it was worked on, or its answer was lost,
# and inference changes nothing.
RETRYABLE = (ServerUnreachableError, OverloadedError, NotReadyError)


@dataclass(frozen=True)
class Chunk:
    """Texts that go in one request: encoded, or the error of one that cannot be.

    ``start`` is the position of the first in what the caller passed.
    """

    start: int
    texts: tuple[bytes | InvalidTextError, ...]


class Planner:
    """Splits texts into chunks of at most ``max_texts`` and, one text aside, ``max_bytes``.

    Fed one text at a time, so that it serves iterators of both kinds and holds one chunk at most.
    """

    def __init__(self, max_texts: int, max_bytes: int) -> None:
        self._max_texts = max_texts
        self._max_bytes = max_bytes
        self._start = 0
        self._texts: list[bytes | InvalidTextError] = []
        self._size = 0

    def add(self, text: object) -> Chunk | None:
        """Takes the next text; returns a chunk when one is complete."""
        encoded = encode_text(text, self._start + len(self._texts))
        size = len(encoded) if isinstance(encoded, bytes) else 0
        full = len(self._texts) >= self._max_texts or self._size + size > self._max_bytes
        chunk = self.finish() if full else None
        self._texts.append(encoded)
        self._size += size
        return chunk

    def finish(self) -> Chunk | None:
        """Returns what is left, None if nothing is."""
        if not self._texts:
            return None
        chunk = Chunk(self._start, tuple(self._texts))
        self._start += len(self._texts)
        self._texts, self._size = [], 0
        return chunk

    def split(self, texts: Iterable[object]) -> Iterator[Chunk]:
        """The chunks of ``texts``."""
        for text in texts:
            if chunk := self.add(text):
                yield chunk
        if chunk := self.finish():
            yield chunk


def encode_text(text: object, index: int) -> bytes | InvalidTextError:
    """A text in UTF-8, or the error that says why it has none."""
    if not isinstance(text, str):
        reason = f"is a {type(text).__name__} ({str(text)[:40]}), expected a string"
        return InvalidTextError(f"text {index}: {reason}", index=index, reason=reason)
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        reason = f"cannot be encoded as UTF-8: character {exc.start} is {text[exc.start]!r}"
        return InvalidTextError(f"text {index}: {reason}", index=index, reason=reason)


class Deadline:
    """A moment after which nobody waits any more."""

    __slots__ = ("_at", "_clock", "limit_s")

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._at = clock() + limit_s

    def remaining_s(self) -> float:
        """Seconds left; zero or less once it has passed."""
        return self._at - self._clock()

    def exceeded(self, what: str) -> DeadlineExceededError:
        """The error that says so."""
        return DeadlineExceededError(f"{what}: no answer within {self.limit_s:g} s")


def retry_pause_s(config: ClientConfig, attempt: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait before try ``attempt + 2``: full jitter under an exponential bound.

    See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    # 2 ** 30 is beyond any backoff_max_s; a larger exponent would only risk an overflow.
    return draw() * min(config.backoff_max_s, config.backoff_initial_s * 2.0 ** min(attempt, 30))
