"""Rows of token ids without end, none sent twice, for models that take tensors.

Ids are random; lengths are those that texts would have (a word counts as a token, and two frame the row), or one length
for all. The first ids behind the frame spell a number, as the first words of `loadtest.payloads.texts` do. A row too
short to hold it (five tokens or fewer, or more in a tiny vocabulary) may repeat.
"""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from random import Random
from typing import NamedTuple

from loadtest.cell import TensorNames, TextSource
from loadtest.payloads import lengths, texts

# BERT's vocabulary: whole words begin about here, behind special tokens, placeholders and characters.
FIRST_WORD_ID = 1000
CLS_ID = 101
SEP_ID = 102

_MATERIAL_BITS = 14


class Row(NamedTuple):
    """One row without its padding: ``length`` ids, little-endian."""

    ids: bytes
    length: int


class Tokens:
    """The rows of one process.

    Attributes:
        counts: how many rows of each length in tokens were taken.
    """

    def __init__(
        self, source: TextSource, names: TensorNames, *, fixed_length: int | None, id_bytes: int, process_index: int = 0
    ) -> None:
        """Draws lengths and ids.

        Args:
            source: of the lengths.
            names: its ``sequence_length`` and ``vocabulary_size``.
            fixed_length: tokens of every row where the model fixes them: no row is longer.
            id_bytes: 4 or 8, of one id.
            process_index: processes of one cell draw different lengths and ids.

        Raises:
            UsageError: the file that lengths are to come from cannot be used.
        """
        self.counts: dict[int, int] = {}
        self._random = Random(f"tokens {source.seed} {process_index}")
        self._repeat_share = source.repeat_share
        self._lengths = _lengths(source, names, fixed_length, self._random)
        self._ids = _Ids(names.vocabulary_size, id_bytes, self._random, max(self._lengths))
        self._number = secrets.randbits(texts.MARK_BITS)
        self._place = 0
        self._pool = self._make_pool(source, names, fixed_length, id_bytes) if source.repeat_share else []

    @staticmethod
    def _make_pool(source: TextSource, names: TensorNames, fixed_length: int | None, id_bytes: int) -> list[Row]:
        """The rows to repeat: the same in every process and run."""
        random = Random(f"pool {source.seed}")
        drawn = _lengths(source, names, fixed_length, random)
        ids = _Ids(names.vocabulary_size, id_bytes, random, max(drawn))
        return [ids.row(number, drawn[number % len(drawn)]) for number in range(texts.POOL_SIZE)]

    def next(self) -> Row:
        """One row."""
        if self._repeat_share and self._random.random() < self._repeat_share:
            row = self._random.choice(self._pool)
        else:
            self._number += 1
            row = self._ids.row(self._number, self._lengths[self._place])
            self._place = (self._place + 1) % len(self._lengths)
        self.counts[row.length] = self.counts.get(row.length, 0) + 1
        return row


def _lengths(source: TextSource, names: TensorNames, fixed_length: int | None, random: Random) -> list[int]:
    if names.sequence_length is not None:
        return [names.sequence_length]
    if source.path is not None:
        drawn = [len(text.split()) for text in texts.read(source)]
        random.shuffle(drawn)
    else:
        drawn = lengths.draw(source, random)
    return [min(length + 2, fixed_length or length + 2) for length in drawn]


class _Ids:
    """Turns numbers and lengths into rows."""

    def __init__(self, vocabulary_size: int, id_bytes: int, random: Random, longest: int) -> None:
        low = FIRST_WORD_ID if vocabulary_size >= 2 * FIRST_WORD_ID else min(SEP_ID + 1, vocabulary_size // 2)
        self._span = vocabulary_size - low
        self._digits = math.ceil(texts.MARK_BITS / math.log2(max(2, self._span)))
        self._ids = [number.to_bytes(id_bytes, "little") for number in range(low, vocabulary_size)]
        self._material = b"".join(random.choices(self._ids, k=2**_MATERIAL_BITS + longest))
        self._bits = random.getrandbits
        self._id_bytes = id_bytes
        framed = vocabulary_size > SEP_ID
        self._frame = (
            (CLS_ID.to_bytes(id_bytes, "little"), SEP_ID.to_bytes(id_bytes, "little")) if framed else (b"", b"")
        )
        self._frame_size = 2 if framed else 0

    def row(self, number: int, length: int) -> Row:
        inner, (cls, sep) = length - self._frame_size, self._frame
        if inner < 1:
            inner, cls, sep = length, b"", b""
        digits: list[bytes] = []
        for _ in range(min(self._digits, inner)):
            number, digit = divmod(number, self._span)
            digits.append(self._ids[digit])
        first = self._bits(_MATERIAL_BITS) * self._id_bytes
        rest = self._material[first : first + (inner - len(digits)) * self._id_bytes]
        return Row(b"".join((cls, *digits, rest, sep)), length)


def describe(source: TextSource, names: TensorNames, fixed_length: int | None, counts: dict[int, int]) -> str:
    """What was sent (or is to be, before anything was): ``tokens: mean 23.4, p95 49``, and where lengths came from."""
    words = []
    if source.path is not None and names.sequence_length is None:
        words.append(f"random tokens in the lengths of {Path(source.path).name}")
    if source.repeat_share:
        words.append(f"{source.repeat_share * 100:g} % of rows repeats from a pool of {texts.POOL_SIZE}")
    if counts:
        words.append(lengths.describe("tokens", counts))
    elif names.sequence_length is not None:
        words.append(f"tokens: {names.sequence_length} each")
    elif source.path is None:
        words.append(lengths.expected("words", source) + ", and 2 tokens")
    if fixed_length is not None and set(counts) != {fixed_length}:
        words.append(f"padded to {fixed_length}")
    return "; ".join(words)
