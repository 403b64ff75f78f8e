"""Which cells of a run a table or a plot is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest.cell import Capacity, CellResult, ModelFacts, Run
from loadtest.report import references
from loadtest.report.figures import counts

BATCH_SIZE = "batch-size"
CONCURRENCY = "concurrency"
PRECISION = "precision"
CAPACITY = "capacity"
SERIES = (PRECISION, BATCH_SIZE, CONCURRENCY, CAPACITY)
PRECISION_ORDER = ("fp32", "fp16", "bf16", "int8", "")


@dataclass(frozen=True)
class Group:
    """Cells of one sweep that differ in one thing only: same model, version, protocol and kind of load."""

    label: str
    cells: tuple[CellResult, ...]


def of_series(run: Run, series: str) -> tuple[CellResult, ...]:
    """The run's cells of one series, in the order of measurement."""
    return tuple(cell for cell in run.cells if cell.spec.series == series)


def latency_cell(run: Run, model: str) -> CellResult | None:
    """The precision series' cell of one user with one text; None if it was not measured."""
    return next((cell for cell in of_series(run, PRECISION) if cell.spec.model == model and _is_lone(cell)), None)


def throughput_cell(run: Run, model: str) -> CellResult | None:
    """The precision series' cell under load; None if it was not measured."""
    return next((cell for cell in of_series(run, PRECISION) if cell.spec.model == model and not _is_lone(cell)), None)


def _is_lone(cell: CellResult) -> bool:
    """One user with one text; a throughput that was asked for with one user looks the same, but for its id."""
    asked_for_throughput = cell.spec.id.endswith("-throughput")
    return cell.spec.workload.users == 1 and cell.spec.batch_size == 1 and not asked_for_throughput


def batch_groups(run: Run) -> list[Group]:
    """The batch-size sweeps of a run, each ordered by batch size."""
    groups = _grouped(of_series(run, BATCH_SIZE))
    return [Group(group.label, tuple(sorted(group.cells, key=lambda cell: cell.spec.batch_size))) for group in groups]


def _grouped(cells: Iterable[CellResult]) -> list[Group]:
    found: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in cells:
        key = (cell.spec.model, cell.setting.served_version, cell.spec.protocol, str(cell.spec.workload))
        found.setdefault(key, []).append(cell)
    return [Group(_label(key, list(found)), tuple(members)) for key, members in found.items()]


def _label(key: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> str:
    """The model, and of the rest what tells the groups apart."""
    words = [key[0]]
    for place, prefix in ((1, "version "), (2, ""), (3, "")):
        if len({other[place] for other in keys}) > 1:
            words.append(prefix + key[place])
    return ", ".join(words)


def load_cells(run: Run) -> dict[str, tuple[CellResult, ...]]:
    """By model, the cells of batch size 1 that show latency against load: users added, or rates tried."""
    found: dict[str, list[CellResult]] = {}
    for cell in run.cells:
        if cell.spec.series in (CONCURRENCY, CAPACITY) and cell.spec.batch_size == 1:
            found.setdefault(cell.spec.model, []).append(cell)
    return {model: tuple(cells) for model, cells in found.items()}


def by_precision(facts: Iterable[ModelFacts]) -> list[ModelFacts]:
    """From the most precise to the least."""
    known = {precision: place for place, precision in enumerate(PRECISION_ORDER)}
    return sorted(facts, key=lambda fact: (known.get(fact.precision, len(known)), fact.model))


def cell_of(run: Run, cell_id: str) -> CellResult | None:
    """The cell of that id."""
    return next((cell for cell in run.cells if cell.spec.id == cell_id), None)


def limit_of(run: Run, limit_ms: float | None) -> float:
    """The P99 limit to judge by, in milliseconds: the one given, else the run's own, else the published 500."""
    if limit_ms is not None:
        return limit_ms
    return min((capacity.p99_limit_ms for capacity in run.capacities), default=references.P99_LIMIT_MS)


def within(cell: CellResult, limit_ms: float) -> bool:
    """Whether a cell counts and its P99 is within the limit."""
    p99 = cell.client.latency_ms.get("p99")
    return counts(cell) and p99 is not None and p99.value <= limit_ms


def largest_batch(group: Group, limit_ms: float) -> CellResult | None:
    """The cell of the largest batch size whose P99 is within the limit."""
    return max(
        (cell for cell in group.cells if within(cell, limit_ms)), key=lambda cell: cell.spec.batch_size, default=None
    )


def shown_by(run: Run, capacity: Capacity) -> CellResult | None:
    """The cell that shows what a capacity says: the rate's, else the batch size's."""
    return cell_of(run, capacity.rate_cell) or cell_of(run, capacity.batch_size_cell)


def busiest(cells: Iterable[CellResult]) -> CellResult | None:
    """The cell that counts with the most sentences a second."""
    return max(
        (cell for cell in cells if counts(cell)), key=lambda cell: cell.client.sentences_per_s.value, default=None
    )
