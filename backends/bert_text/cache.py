"""Answers of texts seen before: a bounded, least-recently-used map.

One per model instance (Triton runs each instance in its own process). Keys are 16-byte digests of
the text, so a full cache takes the same few megabytes whether texts are tweets or 100 kB each, and
keeps nobody's text in memory. Holds what was computed for a text and never an error. Not safe to use from several
threads by itself: its owner locks.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Generic, TypeVar

Value = TypeVar("Value")

DIGEST_BYTES = 16  # two texts in a billion share a digest with a probability of about 1e-21


def digest(text: bytes) -> bytes:
    """The key of ``text``."""
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


class TextCache(Generic[Value]):
    """At most ``size`` values, the least recently used dropped first; size 0 keeps nothing."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"cache size is {size}; expected 0 (off) or more")
        self.size = size
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> Value | None:
        """The value of ``key``, now the most recently used; None when there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Keep ``value``, dropping the least recently used one when full."""
        if self.size == 0:
            return
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self.size:
            self._values.popitem(last=False)
