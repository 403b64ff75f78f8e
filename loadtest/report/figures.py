"""How numbers are written: three significant digits, intervals beside them, no number where a cell does not count."""

from __future__ import annotations

import math

from loadtest.cell import FAILED, INTERRUPTED, INVALID, CellResult, Estimate
from loadtest.report.table import BAD, MISSING, NOT_MEASURED, PLAIN, Value

LONGEST_REASON = 90


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits at least, whole numbers kept whole: 1,234 · 142 · 21.4 · 0.0381; "" for None."""
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}")))))
    return f"{value:,.{decimals}f}"


def percent(share: float | None, digits: int = 3) -> str:
    """A share of 0 to 1 in per cent, without the sign."""
    return number(None if share is None else 100 * share, digits)


def with_interval(estimate: Estimate | None) -> str:
    """``423 (401 to 450)``, or the bare value where there is no interval."""
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def megabytes(size_bytes: int | None) -> str:
    """Millions of bytes."""
    return number(None if size_bytes is None else size_bytes / 1e6)


def gigabytes(size_bytes: int | None) -> str:
    """Thousands of millions of bytes."""
    return number(None if size_bytes is None else size_bytes / 1e9)


def counts(cell: CellResult | None) -> bool:
    """Whether a cell's numbers may be shown as what the server can do."""
    return cell is not None and cell.verdict not in (FAILED, INVALID)


def verdict(cell: CellResult, longest: int = LONGEST_REASON) -> str:
    """``ok``, or the verdict and the first reason, shortened to ``longest`` characters."""
    if not cell.reasons:
        return cell.verdict
    reason = cell.reasons[0].removeprefix(f"{cell.verdict}: ")
    if len(reason) > longest:
        reason = f"{reason[: longest - 1].rstrip()}…"
    more = f" (and {len(cell.reasons) - 1} more)" if len(cell.reasons) > 1 else ""
    return f"{cell.verdict}: {reason}{more}"


def measured(cell: CellResult | None, text: str) -> Value:
    """``text`` if the cell counts, marked if it was interrupted; else what became of the cell, and no number."""
    if cell is None:
        return Value(NOT_MEASURED, MISSING)
    if not counts(cell):
        return Value(verdict(cell), BAD)
    if not text:
        return Value("not known", MISSING)
    return Value(f"{text}, interrupted" if cell.verdict == INTERRUPTED else text, PLAIN)
