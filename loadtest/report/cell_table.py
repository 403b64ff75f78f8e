"""The table of all cells, a row a cell: what commands print and what the report lists before the details."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.cell import CellResult
from loadtest.report.caption import caption
from loadtest.report.figures import counts, number, percent, verdict, with_interval
from loadtest.report.load_tables import judged
from loadtest.report.table import BAD, GOOD, MISSING, Column, Table, Value

# The whole reasons stand below the table.
LONGEST_REASON = 48


def cell_table(cells: Sequence[CellResult], limit_ms: float | None = None, *, generator: bool = True) -> Table:
    """All cells; with a limit, the verdict says on which side of it a cell's P99 is.

    ``generator`` adds the share of a core that the busiest load-generating process used: the page, which is narrower
    than a terminal scrolls, has it in each cell's details.
    """
    devices = sorted({cell.server.device for cell in cells if cell.server is not None})
    columns = (
        Column("cell", numeric=False),
        Column("model", numeric=False),
        Column("batch"),
        Column("load", numeric=False),
        Column("answers"),
        Column("failures"),
        Column("sentences/s"),
        Column("p50, ms"),
        Column("p95, ms"),
        Column("p99, ms (95 % interval)"),
        Column(f"{' / '.join(devices) or 'server'}, %"),
        *([Column("generator, % of a core")] if generator else []),
        Column("verdict", numeric=False),
    )
    rows = tuple(_row(cell, limit_ms, generator=generator) for cell in cells)
    return Table("cells", "Cells", columns, rows, caption(cells), measured=bool(cells))


def _row(cell: CellResult, limit_ms: float | None, *, generator: bool) -> tuple[Value, ...]:
    client = cell.client
    return (
        Value(cell.spec.id),
        Value(cell.spec.model),
        Value(str(cell.spec.batch_size)),
        Value(str(cell.spec.workload)),
        Value(f"{client.requests:,}"),
        Value(f"{client.failed:,}", BAD if client.failed else ""),
        *_capability(cell),
        *([Value(percent(cell.generator.max_cpu_share))] if generator else []),
        _verdict(cell, limit_ms),
    )


def _capability(cell: CellResult) -> list[Value]:
    """Throughput, percentiles and utilisation; blank where the cell does not count."""
    if not counts(cell):
        return [Value("", MISSING)] * 5
    latency = cell.client.latency_ms
    utilisation = cell.server.utilisation if cell.server is not None else None
    middle = [number(latency[name].value) if name in latency else "" for name in ("p50", "p95")]
    texts = [
        number(cell.client.sentences_per_s.value),
        *middle,
        with_interval(latency.get("p99")),
        percent(utilisation),
    ]
    return [Value(text) if text else Value("", MISSING) for text in texts]


def _verdict(cell: CellResult, limit_ms: float | None) -> Value:
    if not counts(cell):
        return Value(verdict(cell, LONGEST_REASON), BAD)
    if limit_ms is not None:
        return judged(cell, limit_ms)
    return Value(verdict(cell), GOOD if cell.verdict == "ok" else "")
