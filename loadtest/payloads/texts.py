"""Texts without end, none sent twice: built from common words with log-normal lengths, or taken from a file.

Every text begins with `MARK_WORDS` words that spell a number of 45 bits in base 512. A process starts at a random
number and counts up, so no text repeats within a process; across processes, cells and runs, two texts with one number
are unlikely beyond any use (a hundred cells of a million texts: less than one chance in a thousand, and the words
behind would have to be equal too). So a cache in the server can answer none, unless `TextSource.repeat_share` is set.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from random import Random

from bert_triton_client.labelled import LabelledDataError, read_texts
from loadtest.cell import TextSource
from loadtest.errors import UsageError
from loadtest.payloads import lengths
from loadtest.payloads.words import WORDS

MARK_WORDS = 5
MARK_BITS = 9 * MARK_WORDS
POOL_SIZE = 100

_MARK_MASK = 2**MARK_BITS - 1
# Odd, so that multiplying by it modulo a power of two gives every number once; successors then differ in all words.
_SCATTER = 0x1B5A_6D3E_94C7 & _MARK_MASK | 1
_WORDS = tuple(word.encode() for word in WORDS)
# Words are drawn before the load begins; a text's are a slice of them.
_MATERIAL_BITS = 12


def mark(number: int) -> bytes:
    """The words that spell a number; different for every number of 45 bits."""
    scattered = number * _SCATTER & _MARK_MASK
    return b" ".join(
        (
            _WORDS[scattered >> 36],
            _WORDS[scattered >> 27 & 511],
            _WORDS[scattered >> 18 & 511],
            _WORDS[scattered >> 9 & 511],
            _WORDS[scattered & 511],
        )
    )


def read(source: TextSource) -> list[str]:
    """The texts of the source's file.

    Raises:
        UsageError: there is no such file, it holds no texts, or not in this column; the message says which.
    """
    if source.path is None:
        return []
    try:
        return read_texts(Path(source.path), text_column=source.text_column)
    except LabelledDataError as exc:
        raise UsageError(str(exc)) from exc


class Texts:
    """The texts of one process.

    Attributes:
        counts: how many texts of each length in words were taken.
    """

    def __init__(self, source: TextSource, process_index: int = 0) -> None:
        """Draws lengths and words, or reads the file.

        Args:
            source: where the texts come from.
            process_index: processes of one cell draw different lengths and words.

        Raises:
            UsageError: the file cannot be used.
        """
        self.counts: dict[int, int] = {}
        self._random = Random(f"texts {source.seed} {process_index}")
        self._repeat_share = source.repeat_share
        self._number = secrets.randbits(MARK_BITS)
        if source.path is None:
            self._next_distinct: Callable[[], tuple[bytes, int]] = _Built(source, self._random, self._count_up).next
            self._pool = _pool(source) if source.repeat_share else []
        else:
            texts = [(text.encode(), len(text.split())) for text in read(source)]
            self._pool = texts[:POOL_SIZE]
            self._next_distinct = _Filed(texts, self._random, self._count_up).next

    def _count_up(self) -> int:
        self._number += 1
        return self._number

    def next(self) -> bytes:
        """One text, UTF-8."""
        if self._repeat_share and self._random.random() < self._repeat_share:
            text, length = self._random.choice(self._pool)
        else:
            text, length = self._next_distinct()
        self.counts[length] = self.counts.get(length, 0) + 1
        return text


def _pool(source: TextSource) -> list[tuple[bytes, int]]:
    """The texts to repeat: the same in every process and run."""
    built = _Built(source, Random(f"pool {source.seed}"), iter(range(POOL_SIZE)).__next__)
    return [built.next() for _ in range(POOL_SIZE)]


class _Built:
    """Texts of common words."""

    def __init__(self, source: TextSource, random: Random, number: Callable[[], int]) -> None:
        self._number = number
        self._lengths = lengths.draw(source, random)
        self._place = 0
        self._bits = random.getrandbits
        words = random.choices(_WORDS, k=2**_MATERIAL_BITS + source.max_words)
        self._material = b" ".join(words)
        self._starts = [0]
        for word in words:
            self._starts.append(self._starts[-1] + len(word) + 1)

    def next(self) -> tuple[bytes, int]:
        length = self._lengths[self._place]
        self._place = (self._place + 1) % lengths.DRAWN
        if length == MARK_WORDS:
            return mark(self._number()), length
        first = self._bits(_MATERIAL_BITS)
        words = self._material[self._starts[first] : self._starts[first + length - MARK_WORDS] - 1]
        return mark(self._number()) + b" " + words, length


class _Filed:
    """Texts of a file, shuffled and cycled, each behind words of its own: in front, where truncation leaves them."""

    def __init__(self, texts: list[tuple[bytes, int]], random: Random, number: Callable[[], int]) -> None:
        self._texts = random.sample(texts, len(texts))
        self._number = number
        self._place = 0

    def next(self) -> tuple[bytes, int]:
        text, length = self._texts[self._place]
        self._place = (self._place + 1) % len(self._texts)
        return mark(self._number()) + b" " + text, length + MARK_WORDS


def describe(source: TextSource, counts: dict[int, int]) -> str:
    """What was sent (or is to be, before anything was): ``words: mean 21.4, p95 47``, and where it came from."""
    words = []
    if source.path is not None:
        words.append(f"texts of {Path(source.path).name}, each made distinct by {MARK_WORDS} words")
    if source.repeat_share:
        words.append(f"{source.repeat_share * 100:g} % of them repeats from a pool of {POOL_SIZE}")
    if counts:
        words.append(lengths.describe("words", counts))
    elif source.path is None:
        words.append(lengths.expected("words", source))
    return "; ".join(words)
