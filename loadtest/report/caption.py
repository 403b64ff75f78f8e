"""The line under a table that says on what and how its measured columns were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadtest.cell import CellResult
from loadtest.report.figures import number

NOTHING = "Nothing of this table was measured in this run."
MOST_VALUES = 6


def caption(cells: Sequence[CellResult]) -> str:
    """Hardware, Triton, models, protocol, load, lengths, time, failures and date of ``cells``."""
    if not cells:
        return NOTHING
    parts = [
        _joined(cell.setting.hardware for cell in cells),
        f"Triton {_joined(cell.setting.triton_version for cell in cells)}",
        _joined(model_of(cell) for cell in cells),
        f"instances {_joined(cell.setting.instances for cell in cells)}",
        f"batching {_joined(cell.setting.batching for cell in cells)}",
        _joined(cell.spec.protocol for cell in cells),
        _joined(load_of(cell) for cell in cells),
        f"batch size {_sizes(cells)}",
        lengths_of(cells),
        f"{_range([cell.client.duration_s for cell in cells])} s a cell after {_warm_up(cells)} s of warm-up",
        f"{sum(cell.client.requests for cell in cells):,} answers",
        f"{sum(cell.client.failed for cell in cells):,} failures",
        dates_of(cells),
    ]
    return f"Measured on {'; '.join(part for part in parts if part)}."


def model_of(cell: CellResult) -> str:
    """Name, version, kind and precision of the model that answered."""
    words = [word for word in (cell.setting.kind, cell.setting.precision) if word]
    return f"{cell.spec.model} version {cell.setting.served_version or '?'} ({', '.join(words)})"


def load_of(cell: CellResult) -> str:
    """``closed workload, 4 users`` or ``open workload, 40 requests/s``."""
    return f"{cell.spec.workload.kind} workload, {cell.spec.workload}"


def dates_of(cells: Iterable[CellResult]) -> str:
    """The day or days of measurement (UTC)."""
    days = sorted({cell.started_at[:10] for cell in cells})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""


def lengths_of(cells: Iterable[CellResult]) -> str:
    """Lengths of what was asked; of many samples of one distribution only the distribution."""
    lengths = _distinct(cell.setting.lengths or cell.generator.lengths for cell in cells)
    return _joined(lengths) if len(lengths) <= 3 else f"{lengths[0]} and {len(lengths) - 1} other samples"


def _sizes(cells: Iterable[CellResult]) -> str:
    return ", ".join(str(size) for size in sorted({cell.spec.batch_size for cell in cells}))


def _warm_up(cells: Sequence[CellResult]) -> str:
    return _range([cell.spec.warm_up_s for cell in cells])


def _range(values: Sequence[float]) -> str:
    low, high = number(min(values), 2), number(max(values), 2)
    return low if low == high else f"{low} to {high}"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _joined(values: Iterable[str]) -> str:
    """The distinct values; of many only the first and the last."""
    distinct = _distinct(values)
    if len(distinct) > MOST_VALUES:
        return f"{distinct[0]} … {distinct[-1]} ({len(distinct)} in all)"
    return " / ".join(distinct) or "not stated"
