"""The most that a model does within limits: largest batch size, largest arrival rate, the knee of a concurrency sweep.

Owns the rules and the steps of the search; what is tried is measured by `loadtest.conclusions.capacity_search`.

A rate is *sustained* if its cell's verdict is ok (failures within the error limit, the generator was not the
bottleneck), its p99, counted from the intended send times, is within the latency limit, and answers came at 95 % or
more of the pace at which requests arrived. (Of the real arrivals, not of the nominal rate: 200 Poisson arrivals are off
by 7 % themselves.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from loadtest.cell import INVALID, KEEPING_UP_SHARE, OK, Capacity, CellResult

KNEE_SHARE = 0.95
TOLERANCE = 0.05
MAX_STEPS = 8
FIRST_SHARE = 0.8
GROWTH = 1.25
SHRINKAGE = 0.6


class Trial(Enum):
    """What came of trying a rate."""

    SUSTAINED = "sustained"
    BROKEN = "broken"
    UNKNOWN = "unknown"  # the generator was the bottleneck: says nothing of the server


@dataclass(frozen=True)
class RateSearch:
    """How a search for the largest rate ended.

    Attributes:
        rate_per_s: the largest rate that was sustained; None if none was.
        broken_per_s: the smallest that was not; None if none broke.
        is_bound: the two are within the tolerance: the limit, not the search, ended it.
        generator_bound: a rate could not be tried because the generator was the bottleneck.
    """

    rate_per_s: float | None
    broken_per_s: float | None
    is_bound: bool
    generator_bound: bool


def largest_rate(
    start_per_s: float, attempt: Callable[[float], Trial], *, tolerance: float = TOLERANCE, max_steps: int = MAX_STEPS
) -> RateSearch:
    """Brackets the largest sustained rate, then halves the bracket (as a ratio) until it is within ``tolerance``.

    Where the generator is the bottleneck nothing is known of the server: the search then ends with the largest rate
    that was sustained (a smaller one is tried if there is none yet), and does not call it the limit.

    Args:
        start_per_s: where to begin, a little below what is expected.
        attempt: tries a rate.
        tolerance: of the ratio between the smallest broken and the largest sustained rate.
        max_steps: rates to try at most.
    """
    low: float | None = None
    high: float | None = None
    generator_bound = False
    rate = start_per_s
    for _ in range(max_steps):
        trial = attempt(rate)
        generator_bound = generator_bound or trial is Trial.UNKNOWN
        if trial is Trial.SUSTAINED:
            low = rate
        elif trial is Trial.BROKEN:
            high = rate
        if low is not None and generator_bound:
            break
        if low is not None and high is not None and high / low <= 1 + tolerance:
            return RateSearch(low, high, is_bound=True, generator_bound=False)
        rate = rounded(_next_rate(rate, low, high))
    return RateSearch(low, high, is_bound=False, generator_bound=generator_bound)


def _next_rate(last: float, low: float | None, high: float | None) -> float:
    if low is not None and high is not None:
        return math.sqrt(low * high)
    return low * GROWTH if low is not None else last * SHRINKAGE


def rounded(rate: float) -> float:
    """Three digits: a rate is part of a cell's id."""
    return float(f"{rate:.3g}")


def within(cell: CellResult, p99_limit_ms: float) -> bool:
    """Whether a cell counts and its p99 is within the limit."""
    p99 = cell.client.latency_ms.get("p99")
    return cell.verdict == OK and p99 is not None and p99.value <= p99_limit_ms


def judge_rate(cell: CellResult, p99_limit_ms: float) -> Trial:
    """What a cell of an open workload says of its rate; see the module's rule."""
    if cell.verdict == INVALID:
        return Trial.UNKNOWN
    client = cell.client
    arrived_per_s = (client.requests + client.failed) / client.duration_s
    keeping_up = client.requests_per_s.value >= KEEPING_UP_SHARE * arrived_per_s
    return Trial.SUSTAINED if within(cell, p99_limit_ms) and keeping_up else Trial.BROKEN


def largest_batch(cells: Sequence[CellResult], p99_limit_ms: float) -> CellResult | None:
    """The cell of the largest batch size within the limit; None if there is none."""
    return max(
        (cell for cell in cells if within(cell, p99_limit_ms)), key=lambda cell: cell.spec.batch_size, default=None
    )


def is_hopeless(cells: Sequence[CellResult], p99_limit_ms: float) -> bool:
    """Whether half the requests take longer than the limit though single texts are asked one by one: no load helps."""
    return any(
        cell.verdict == OK
        and (cell.spec.batch_size, cell.spec.workload.users) == (1, 1)
        and cell.client.latency_ms["p50"].value > p99_limit_ms
        for cell in cells
        if "p50" in cell.client.latency_ms
    )


def knee(cells: Sequence[CellResult]) -> CellResult | None:
    """The cell with the fewest users whose throughput is 95 % or more of the best; None if no cell counts.

    Below it, users add throughput; above it they mostly add waiting.
    """
    counting = [cell for cell in cells if cell.verdict == OK and cell.spec.workload.users is not None]
    best = max((cell.client.sentences_per_s.value for cell in counting), default=0.0)
    enough = [cell for cell in counting if cell.client.sentences_per_s.value >= KNEE_SHARE * best]
    return min(enough, key=lambda cell: cell.spec.workload.users or 0, default=None)


@dataclass(frozen=True)
class Search:
    """A capacity and what it was concluded from; ``rates`` is None where no rate could be within the limit."""

    capacity: Capacity
    cells: tuple[CellResult, ...]
    rates: RateSearch | None

    def cell(self, cell_id: str) -> CellResult:
        """One of its cells."""
        return next(cell for cell in self.cells if cell.spec.id == cell_id)
