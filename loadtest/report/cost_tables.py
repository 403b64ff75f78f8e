"""T4 (hardware) and T5 (cost): rows that were measured elsewhere or priced by the user, beside the published ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loadtest.cell import Capacity, CellResult, HardwareRow, Run
from loadtest.conclusions import cost
from loadtest.report import references
from loadtest.report.caption import caption
from loadtest.report.figures import number
from loadtest.report.selection import shown_by
from loadtest.report.table import COMPUTED, MEASURED, MISSING, PUBLISHED, Column, Table, Value, missing

Row = tuple[Value, ...]
EMPTY = Value("", MISSING)
NO_PRICE = "give --monthly-price"


def t4(run: Run) -> Table:
    """Hardware: the published machines, and every machine that was measured."""
    columns = (
        Column("hardware", numeric=False),
        Column("sentences/s", PUBLISHED),
        Column("P99, ms", PUBLISHED),
        Column("sentences/s", MEASURED),
        Column("P99, ms", MEASURED),
        Column("how", MEASURED, numeric=False),
    )
    rows: list[Row] = []
    matched: set[int] = set()
    for reference in references.T4:
        head = (Value(reference.name), Value(str(reference.sentences_per_s)), Value(str(reference.p99_ms)))
        here = [place for place, row in enumerate(run.hardware) if re.search(reference.pattern, row.hardware)]
        matched.update(here)
        rows += [(*head, *_t4_here(run.hardware[place], name=True)) for place in here] or [(*head, *missing(3))]
    for place, row in enumerate(run.hardware):
        if place not in matched:
            rows.append((Value(row.hardware), EMPTY, EMPTY, *_t4_here(row)))
    return Table("T4", "Hardware", columns, tuple(rows), _t4_caption(run.hardware), (), measured=bool(run.hardware))


def _t4_here(row: HardwareRow, *, name: bool = False) -> Row:
    how = [row.model, row.precision, f"batch size {row.batch_size}", row.workload, row.measured_on, f"run {row.run}"]
    words = [row.hardware, *how] if name else how
    return (
        Value(number(row.sentences_per_s)),
        Value(number(row.p99_ms)),
        Value(", ".join(word for word in words if word)),
    )


def _t4_caption(rows: Sequence[HardwareRow]) -> str:
    if not rows:
        return "No machine was measured; to add this one: python -m loadtest hardware add."
    return (
        "Every measured row says how; the cells of its run say the rest (Triton version, lengths, instances, batching)."
    )


def t5(run: Run) -> Table:
    """Cost: the published options, what the formula makes of their own figures, and what was measured and priced."""
    columns = (
        Column("option", numeric=False),
        Column("price", PUBLISHED),
        Column("max QPS", PUBLISHED),
        Column("per 1,000 requests", PUBLISHED),
        Column("per 1,000 requests at full load", COMPUTED),
        Column("price a month, given", MEASURED),
        Column("max requests/s", MEASURED),
        Column("utilisation, %", MEASURED),
        Column("per 1,000 requests", MEASURED),
    )
    rows = [_published(option) for option in references.T5] + _here(run)
    measured_here = bool(run.costs or _rated(run))
    return Table("T5", "Cost", columns, tuple(rows), caption(_cells(run)), _notes(run), measured_here)


def _published(option: references.Option) -> Row:
    per_1000 = cost.cost_of(option.name, option.price, option.max_qps).per_1000_requests if option.monthly else None
    return (
        Value(option.name),
        Value(f"${option.price:,} a month" if option.monthly else f"${option.price:,} once"),
        Value(number(option.max_qps)),
        Value(f"${option.per_1000_requests:g}"),
        Value(f"${number(per_1000)}") if per_1000 is not None else Value("no monthly price", MISSING),
        *missing(4),
    )


def _here(run: Run) -> list[Row]:
    rows: list[Row] = []
    for paid in run.costs:
        price, each = (f"{paid.currency}{number(value)}" for value in (paid.monthly_price, paid.per_1000_requests))
        rate, used = number(paid.requests_per_s), number(100 * paid.utilisation)
        rows.append((Value(paid.option), *[EMPTY] * 4, Value(price), Value(rate), Value(used), Value(each)))
    if rows:
        return rows
    for capacity in _rated(run):
        rate = number(capacity.rate_per_s)
        name = Value(f"this server, {capacity.model}")
        rows.append((name, *[EMPTY] * 4, Value(NO_PRICE, MISSING), Value(rate), EMPTY, Value(NO_PRICE, MISSING)))
    return rows or [(Value("this server"), *[EMPTY] * 4, *missing(4))]


def _rated(run: Run) -> list[Capacity]:
    return [capacity for capacity in run.capacities if capacity.rate_per_s is not None]


def _cells(run: Run) -> list[CellResult]:
    return [cell for capacity in _rated(run) if (cell := shown_by(run, capacity)) is not None]


def _notes(run: Run) -> tuple[str, ...]:
    notes = [
        f"Cost of 1,000 requests = {cost.FORMULA}.",
        "“Computed” is the published price and QPS in that formula, at full load: the published costs do not follow.",
    ]
    notes += [f"{paid.option}: {cost.worked(paid)}." for paid in run.costs]
    notes += [
        f"Max requests/s of {capacity.model}: the largest rate (open workload) with P99 within "
        f"{number(capacity.p99_limit_ms)} ms and failures within {100 * capacity.max_error_rate:g} %"
        + ("." if capacity.rate_is_bound else "; the search ended before it met the limit, so it is at least that.")
        for capacity in _rated(run)
    ]
    return tuple(notes)
