"""T3 (batch size) and T6 (health thresholds): what a load does to latency, held against the published figures."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.cell import CellResult, Run
from loadtest.report import references
from loadtest.report.caption import caption
from loadtest.report.figures import counts, measured, number, percent, verdict, with_interval
from loadtest.report.selection import (
    Group,
    batch_groups,
    busiest,
    largest_batch,
    limit_of,
    load_cells,
    shown_by,
    within,
)
from loadtest.report.table import BAD, GOOD, MEASURED, MISSING, PUBLISHED, Column, Table, Value, missing

Row = tuple[Value, ...]


def t3(run: Run, limit_ms: float | None = None) -> Table:
    """Batch size against utilisation, throughput and P99: the published sizes, and whatever else was measured."""
    limit = limit_of(run, limit_ms)
    groups = batch_groups(run) or [Group("", ())]
    several = len(groups) > 1
    columns = (
        *((Column("model", numeric=False),) if several else ()),
        Column("batch size"),
        Column("GPU utilisation, %", PUBLISHED),
        Column("sentences/s", PUBLISHED),
        Column("P99, ms", PUBLISHED),
        Column(f"{_device(groups)} utilisation, %", MEASURED),
        Column("sentences/s", MEASURED),
        Column("P99, ms (95 % interval)", MEASURED),
        Column("verdict", MEASURED, numeric=False),
    )
    rows = tuple(
        (*((Value(group.label),) if several else ()), *row) for group in groups for row in _t3_rows(group, limit)
    )
    cells = [cell for group in groups for cell in group.cells]
    notes = [
        note for group in groups if group.cells for note in (advice(group, limit, name=group.label if several else ""),)
    ]
    notes += _interval_notes(cells)
    return Table(
        "T3", "Batch size: utilisation, throughput, P99", columns, rows, caption(cells), tuple(notes), bool(cells)
    )


def _t3_rows(group: Group, limit_ms: float) -> list[Row]:
    published = {row.batch_size: row for row in references.T3}
    cells = {cell.spec.batch_size: cell for cell in group.cells}
    rows: list[Row] = []
    for size in sorted({*published, *cells}):
        reference = published.get(size)
        told = (
            ("", "", "")
            if reference is None
            else (
                str(reference.gpu_utilisation_percent),
                str(reference.sentences_per_s),
                str(reference.p99_ms),
            )
        )
        cell = cells.get(size)
        here = missing(4) if cell is None else _t3_here(cell, limit_ms)
        rows.append((Value(str(size)), *(Value(text) for text in told), *here))
    return rows


def _t3_here(cell: CellResult, limit_ms: float) -> Row:
    if not counts(cell):
        return (*(Value("", MISSING) for _ in range(3)), Value(verdict(cell), BAD))
    utilisation = cell.server.utilisation if cell.server else None
    return (
        Value(percent(utilisation)) if utilisation is not None else Value("not known", MISSING),
        Value(with_interval(cell.client.sentences_per_s)),
        Value(with_interval(cell.client.latency_ms.get("p99"))),
        judged(cell, limit_ms),
    )


def judged(cell: CellResult, limit_ms: float) -> Value:
    """The verdict of a cell, and whether its P99 is within the limit."""
    if not counts(cell):
        return Value(verdict(cell), BAD)
    if "p99" not in cell.client.latency_ms:
        return Value(f"{verdict(cell)}, nothing answered", BAD)
    side = "within" if within(cell, limit_ms) else "over"
    return Value(f"{cell.verdict}, {side} {number(limit_ms)} ms", GOOD if side == "within" else BAD)


def advice(group: Group, limit_ms: float, name: str = "") -> str:
    """Which batch size to take: the largest one measured whose P99 is within the limit."""
    best = largest_batch(group, limit_ms)
    head = f"{name}: " if name else ""
    if best is None:
        return f"{head}no batch size measured keeps P99 within {number(limit_ms)} ms."
    return (
        f"{head}{best.spec.batch_size} is the largest batch size measured that keeps P99 within {number(limit_ms)} ms "
        f"({with_interval(best.client.latency_ms['p99'])} ms, {number(best.client.sentences_per_s.value)} sentences/s)."
    )


def _interval_notes(cells: list[CellResult]) -> list[str]:
    small = [cell for cell in cells if counts(cell) and (p99 := cell.client.latency_ms.get("p99")) and p99.high is None]
    if not small:
        return []
    sizes = ", ".join(f"{cell.spec.batch_size} ({cell.client.requests:,} answers)" for cell in small)
    return [f"No interval: the sample is too small for one at batch size {sizes}."]


def _device(groups: list[Group]) -> str:
    devices = sorted({cell.server.device for group in groups for cell in group.cells if cell.server is not None})
    return " / ".join(devices) if devices else "server"


def t6(run: Run, limit_ms: float | None = None) -> Table:
    """Health thresholds, held against the cell that shows each model's capacity, or else its best one."""
    shown = _judged_cells(run, limit_ms)
    columns = (
        Column("metric", numeric=False),
        Column("threshold", PUBLISHED, numeric=False),
        *((Column("model", MEASURED, numeric=False),) if len(shown) > 1 else ()),
        Column("value", MEASURED, numeric=False),
        Column("verdict", MEASURED, numeric=False),
    )
    rows: list[Row] = []
    for threshold in references.T6:
        head = (Value(threshold.metric), Value(threshold.limit))
        if not shown:
            rows.append((*head, *missing(2)))
        for cell in shown:
            model = (Value(cell.spec.model),) if len(shown) > 1 else ()
            rows.append((*head, *model, *_CHECKS[threshold.key](run, cell)))
    notes = tuple(f"{cell.spec.model} is judged by its cell {cell.spec.id}: {cell.spec.workload}." for cell in shown)
    return Table("T6", "Health thresholds", columns, tuple(rows), caption(shown), notes, bool(shown))


def _judged_cells(run: Run, limit_ms: float | None) -> list[CellResult]:
    shown = [cell for capacity in run.capacities if (cell := shown_by(run, capacity)) is not None]
    if shown:
        return shown
    limit = limit_of(run, limit_ms)
    models = load_cells(run)
    for group in batch_groups(run):
        models.setdefault(group.cells[0].spec.model, group.cells)
    best = [busiest([cell for cell in cells if within(cell, limit)]) or busiest(cells) for cells in models.values()]
    return [cell for cell in best if cell is not None]


def _check_p99(_run: Run, cell: CellResult) -> Row:
    p99 = cell.client.latency_ms.get("p99")
    value = measured(cell, f"{with_interval(p99)} ms" if p99 else "")
    if p99 is None or not counts(cell):
        return value, Value("", MISSING)
    return value, _met(p99.value < references.P99_LIMIT_MS)


def _check_errors(_run: Run, cell: CellResult) -> Row:
    rate = cell.client.error_rate
    said = f"{percent(rate)} % ({cell.client.failed:,} of {cell.client.requests + cell.client.failed:,})"
    return Value(said), _met(rate < references.MAX_ERROR_RATE)


def _check_utilisation(_run: Run, cell: CellResult) -> Row:
    if cell.server is None or cell.server.utilisation is None:
        return missing(2)
    value = measured(cell, f"{cell.server.device} {percent(cell.server.utilisation)} %")
    if cell.server.device != "GPU" or not counts(cell):
        return value, Value("not comparable: this is the CPU" if cell.server.device != "GPU" else "", MISSING)
    return value, _met(0.70 <= cell.server.utilisation <= 0.90)


def _check_cache(run: Run, cell: CellResult) -> Row:
    """Only cells that repeat texts on purpose say anything of a cache."""
    repeated = next((c for c in run.cells if c.spec.model == cell.spec.model and c.spec.texts.repeat_share > 0), None)
    if repeated is None:
        return missing(2, "not measured (every text is distinct)")
    if repeated.server is None or not counts(repeated):
        return measured(repeated, ""), Value("", MISSING)
    texts = repeated.client.requests * repeated.spec.batch_size
    share = repeated.server.cache_hits / texts if texts else 0.0
    said = f"{percent(share)} % where {percent(repeated.spec.texts.repeat_share)} % of the texts repeat"
    return Value(said), _met(share > 0.30)


def _check_throughput(_run: Run, cell: CellResult) -> Row:
    return measured(cell, f"{with_interval(cell.client.sentences_per_s)} sentences/s"), Value("", MISSING)


def _met(met: bool) -> Value:
    return Value("met", GOOD) if met else Value("not met", BAD)


_CHECKS: dict[str, Callable[[Run, CellResult], Row]] = {
    "p99": _check_p99,
    "error-rate": _check_errors,
    "utilisation": _check_utilisation,
    "cache": _check_cache,
    "throughput": _check_throughput,
}
