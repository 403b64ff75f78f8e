"""How long texts are: drawn log-normal before the load begins, counted while it runs, said in a few words.

Lengths are in words for texts and in tokens for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

from loadtest.cell import TextSource

# As many lengths are drawn and then cycled: a power of two, so that a mask wraps the index.
DRAWN = 2**14


def draw(source: TextSource, random: Random) -> list[int]:
    """`DRAWN` log-normal lengths in words, within the source's bounds."""
    log_median = math.log(source.median_words)
    drawn = (round(random.lognormvariate(log_median, source.sigma)) for _ in range(DRAWN))
    return [min(max(length, source.min_words), source.max_words) for length in drawn]


def describe(unit: str, counts: Mapping[int, int]) -> str:
    """For example ``words: mean 21.4, p95 47``; lengths that are all one are ``tokens: 128 each``.

    Args:
        unit: what is counted.
        counts: how many there were of each length, at least one.
    """
    if len(counts) == 1:
        return f"{unit}: {next(iter(counts))} each"
    total = sum(counts.values())
    mean = sum(length * count for length, count in counts.items()) / total
    return f"{unit}: mean {mean:.1f}, p95 {_nearest_rank(counts, math.ceil(0.95 * total))}"


def _nearest_rank(counts: Mapping[int, int], rank: int) -> int:
    seen = 0
    for length in sorted(counts):
        seen += counts[length]
        if seen >= rank:
            break
    return length


def expected(unit: str, source: TextSource) -> str:
    """What lengths are to be, before any was sent."""
    return (
        f"{unit}: log-normal, median {source.median_words:g}, sigma {source.sigma:g}, "
        f"{source.min_words} to {source.max_words}"
    )
