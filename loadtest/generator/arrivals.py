"""When the requests of an open workload are to be sent: a Poisson process, whatever the server does.

Owns the times only. They are sums of exponential gaps from one start, so that sending one late moves none of the
others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

GAPS_AT_ONCE = 1024


def arrival_times(rate_per_s: float, *, seed: tuple[int, ...]) -> Iterator[float]:
    """Endless arrival times in seconds from the start.

    Args:
        rate_per_s: mean arrivals a second. Processes that share a load take a part of its rate each: Poisson
        processes add
            up to a Poisson process.
        seed: processes and cells with different seeds are independent of each other.
    """
    random = np.random.default_rng(seed)
    last_s = 0.0
    while True:
        times = last_s + np.cumsum(random.exponential(1 / rate_per_s, GAPS_AT_ONCE))
        last_s = float(times[-1])
        yield from times.tolist()


def seed_of(cell_id: str, texts_seed: int, process_index: int) -> tuple[int, ...]:
    """A seed for each process of each cell, the same whenever that cell is measured again."""
    return (abs(texts_seed), process_index, zlib.crc32(cell_id.encode()))
