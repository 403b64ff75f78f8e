"""The goals of the project, with what one run says of them. They are set for two cores with AMX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.compare.contestant import SERVER
from bench.compare.latency import HalfLoad
from bench.compare.machine import Rates
from bench.compare.measure import Block
from bench.compare.rows import in_process, ours
from bench.compare.score import Row, Spread, of_row, ratio
from bench.load import cpu_flags

FIRST_SERVICE = "FastAPI + PyTorch, one text a request"
NOT_MEASURED = "not in this run"


@dataclass(frozen=True)
class Result:
    """What one run measured.

    Attributes:
        rows: of the table.
        blocks: of all rounds.
        rates: of the machine, by round.
        half_loads: of ours, best.
        int8_points_lost: accuracy of ours, FP32 - of ours, INT8, in percentage points; None for an untrained model.
        padding: padded tokens / real tokens in arrival order, batches of 16.
        best_precision: the precision of ours, best; empty if it did not run.
    """

    rows: Sequence[Row]
    blocks: Sequence[Block]
    rates: Sequence[Rates]
    half_loads: Sequence[HalfLoad]
    int8_points_lost: float | None
    padding: float
    best_precision: str


@dataclass(frozen=True)
class Judged:
    """One goal and this run's figure.

    Attributes:
        goal: what is compared.
        wanted: the figure wanted.
        found: the figure found.
        met: yes, no, or why neither.
    """

    goal: str
    wanted: str
    found: str
    met: str


def judged(result: Result) -> list[Judged]:
    """Every goal."""
    return [
        _at_least("ours, best / FastAPI + PyTorch", 12, ratio(result.blocks, ours.BEST, FIRST_SERVICE)),
        _best_other(result, 3, "ours, best / best other server, each with its defaults", defaults=True),
        _best_other(result, 1.5, "ours, best / best other server with its best CPU settings", defaults=False),
        _int8(result),
        _packing(result),
        _at_least(
            "ours, best / the same engine fed one text at a time in process",
            1.3,
            ratio(result.blocks, ours.BEST, in_process.ONE_AT_A_TIME),
        ),
        _at_least("served / in-process limit", 0.92, ratio(result.blocks, ours.BEST, in_process.LIMIT)),
        _half_load(result),
        _share_of_peak(result),
    ]


def share_of_peak(result: Result, row: str, precision: str) -> Spread | None:
    """Operations/s of a row / the matrix-product rate of the same round, by the rate of ``precision``."""
    peaks = {number: rates.of(precision) for number, rates in enumerate(result.rates)}
    return Spread.of(
        block.operations_per_s / peak
        for block in of_row(result.blocks, row)
        for peak in [peaks.get(block.round)]
        if peak
    )


def has_amx() -> bool:
    """Whether this CPU is one that the goals are set for."""
    return "amx_bf16" in cpu_flags()


def _at_least(goal: str, wanted: float, found: Spread | None, also: Callable[[], bool] = lambda: True) -> Judged:
    if found is None:
        return Judged(goal, f">= {wanted:g}", NOT_MEASURED, "")
    return Judged(goal, f">= {wanted:g}", f"{found:.2f}", _yes(found.median >= wanted and also()))


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _best_other(result: Result, wanted: float, goal: str, *, defaults: bool) -> Judged:
    """The fastest server that is not ours; with ``defaults`` among those that nobody tuned, else among all."""
    own = {ours.FP32, ours.INT8, ours.BEST, ours.BEST_HTTP}
    others = [
        (row.sentences_per_s.median, row.name)
        for row in result.rows
        if row.where == SERVER and row.name not in own and row.sentences_per_s and not row.status.startswith("invalid")
        if row.settings.startswith("defaults") or not defaults
    ]
    if not others:
        return Judged(goal, f">= {wanted:g}", NOT_MEASURED, "")
    _, name = max(others)
    return _at_least(f"{goal} ({name})", wanted, ratio(result.blocks, ours.BEST, name))


def _int8(result: Result) -> Judged:
    goal = "ours INT8 / ours FP32; <= 0.3 points of accuracy lost, >= 99 % of labels equal"
    found = ratio(result.blocks, ours.INT8, ours.FP32)
    equal = next((row.labels_equal for row in result.rows if row.name == ours.INT8), None)
    lost = result.int8_points_lost
    if found is None or lost is None or equal is None:
        return _at_least(f"{goal} (the labels: on the demo model)", 3.3, found)
    speed = _at_least(goal, 3.3, found, lambda: lost <= 0.3 and equal >= 0.99)
    return Judged(goal, speed.wanted, f"{speed.found}; {lost:.2f} points; {equal:.1%}", speed.met)


def _packing(result: Result) -> Judged:
    found = ratio(result.blocks, in_process.PACKED_16, in_process.PADDED_16)
    return _at_least(
        f"packed / padded in arrival order, batches of 16, FP32: 0.9 x {result.padding:.2f} padded/real tokens "
        "(other layouts: make bench-packing)",
        round(0.9 * result.padding, 2),
        found,
    )


def _half_load(result: Result) -> Judged:
    goal = "p99 at half of the maximum throughput / the lone request's median latency"
    found = Spread.of(half.ratio for half in result.half_loads)
    if found is None:
        return Judged(goal, "<= 3", NOT_MEASURED, "")
    to_p99 = Spread.of(half.ratio_to_p99 for half in result.half_loads)
    return Judged(goal, "<= 3", f"{found:.2f}; of the lone p99: {to_p99:.2f}", _yes(found.median <= 3))


def _share_of_peak(result: Result) -> Judged:
    precision = result.best_precision
    goal = "share of the measured matrix-product rate, the limit's packed executions"
    found = share_of_peak(result, in_process.LIMIT, precision) if precision else None
    if found is None:
        return Judged(goal, ">= 50 % (bf16)", NOT_MEASURED, "")
    percent = Spread(found.median * 100, found.low * 100, found.high * 100)
    met = _yes(percent.median >= 50) + ("" if precision == "bf16" else f" (of {precision}: no bf16 here)")
    return Judged(goal, ">= 50 % (bf16)", f"{percent:.0f} % of {precision}", met)
