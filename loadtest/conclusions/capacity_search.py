"""Measures until a model's capacity is known: batch sizes, one saturating cell, then rates.

Which rates is asked of `loadtest.conclusions.capacity`. What the run folder holds is not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest.cell import INVALID, OK, Capacity, CellResult, CellSpec, Workload
from loadtest.conclusions.capacity import (
    FIRST_SHARE,
    RateSearch,
    Search,
    Trial,
    is_hopeless,
    judge_rate,
    largest_batch,
    largest_rate,
    rounded,
)
from loadtest.sweep import sweep

if TYPE_CHECKING:
    from loadtest.options import Session
    from loadtest.results import RunFolder
    from loadtest.target import Target

BATCH_SIZE_SERIES = "batch-size"
CONCURRENCY_SERIES = "concurrency"
SERIES = "capacity"
# Of rates at which the generator was the bottleneck: a neighbour on the machine may have been, for once.
SECOND_TRIES = 2
# Of the closed cell whose throughput the search for a rate starts from: enough to keep any server here busy.
SATURATING_USERS = 16


def find_capacity(
    session: Session, target: Target, folder: RunFolder, *, sizes: Sequence[int], users: int, p99_limit_ms: float
) -> Search:
    """Measures batch sizes, then rates, until the limit is found; stores the `Capacity`.

    The cells of batch sizes are those of ``python -m loadtest batch-size``: those in the folder are not measured again.

    Raises:
        SweepStoppedError: Ctrl-C, or the server is gone.
        ResultsError: the folder holds one of the cells, measured otherwise.
    """
    batches = sweep(batch_specs(session, target, sizes, Workload(users=users)), [target], session, folder)
    rates: RateSearch | None = None
    tried: list[CellResult] = []
    if not is_hopeless(batches, p99_limit_ms):
        rates, tried = _search_rate(session, target, folder, p99_limit_ms)
    rate_per_s = rates.rate_per_s if rates else None
    largest = largest_batch(batches, p99_limit_ms)
    shown = next((cell for cell in reversed(tried) if rate_per_s == cell.spec.workload.rate_per_s), None)
    capacity = Capacity(
        model=target.model,
        p99_limit_ms=p99_limit_ms,
        max_error_rate=session.max_error_rate,
        largest_batch_size=largest.spec.batch_size if largest else None,
        batch_size_cell=largest.spec.id if largest else "",
        rate_per_s=rate_per_s,
        rate_cell=shown.spec.id if rate_per_s and shown else "",
        rate_is_bound=rates is not None and rates.is_bound,
    )
    folder.put_capacity(capacity)
    return Search(capacity, (*batches, *tried), rates)


def batch_specs(session: Session, target: Target, sizes: Sequence[int], workload: Workload) -> list[CellSpec]:
    """The cells of ``python -m loadtest batch-size``, which a search for the largest size shares."""
    return [session.spec(BATCH_SIZE_SERIES, target.model, batch_size=size, workload=workload) for size in sizes]


def _search_rate(
    session: Session, target: Target, folder: RunFolder, p99_limit_ms: float
) -> tuple[RateSearch, list[CellResult]]:
    start = _saturated(session, target, folder)
    tried = [start]

    second_tries = SECOND_TRIES

    def attempt(rate_per_s: float) -> Trial:
        nonlocal second_tries
        spec = session.spec(SERIES, target.model, batch_size=1, workload=Workload(rate_per_s=rate_per_s))
        tried.extend(sweep([spec], [target], session, folder))
        trial = judge_rate(tried[-1], p99_limit_ms)
        if trial is Trial.UNKNOWN and second_tries:
            second_tries -= 1
            return attempt(rate_per_s)
        return trial

    closed_per_s = start.client.requests_per_s.value
    if closed_per_s <= 0:
        return RateSearch(None, None, is_bound=False, generator_bound=start.verdict == INVALID), tried
    return largest_rate(rounded(FIRST_SHARE * closed_per_s), attempt), tried


def _saturated(session: Session, target: Target, folder: RunFolder) -> CellResult:
    """A closed cell that keeps the server busy: the best of this folder's concurrency sweep, else one measured now."""
    known = [
        cell
        for cell in folder.read().cells
        if cell.spec.series == CONCURRENCY_SERIES and cell.spec.model == target.model and cell.spec.batch_size == 1
    ]
    counting = [cell for cell in known if cell.verdict == OK]
    if counting:
        return max(counting, key=lambda cell: cell.client.requests_per_s.value)
    workload = Workload(users=max(SATURATING_USERS, session.processes))
    spec = session.spec(SERIES, target.model, batch_size=1, workload=workload)
    return sweep([spec], [target], session, folder)[0]
