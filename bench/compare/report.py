"""The result in words: method, table, what could not take part, goals. Markdown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench.compare import goals
from bench.compare.goals import Result
from bench.compare.rows import in_process, ours
from bench.compare.score import Row, Spread
from bench.compare.workload import Work
from bench.load import cpu_name
from bench.models import MODELS


def method(work: Work, *, rounds: int, seconds: float, clients: int, padding: float) -> str:
    """How it was measured, on what, and when."""
    model = MODELS[work.workload.model]
    checked = (
        "labels are compared with the checkpoint's own (PyTorch, FP32)"
        if model.trained
        else "labels are compared with the checkpoint's own (PyTorch, FP32), which for random weights hang on rounding"
    )
    return (
        f"{model.description}; {work.lengths}: movie sentences and reviews of several sentences, padded/real tokens "
        f"{padding:.2f} in batches of 16 as they come; {rounds} round{'s' if rounds > 1 else ''} of every row in turn, "
        f"{seconds:g} s a row; servers get one text a request from {clients} clients that each wait for their answer, "
        f"in-process rows the whole list at once; no answer comes from a cache; {checked}; servers and clients share "
        f"{cpu_name()}; {time.strftime('%Y-%m-%d')}. Medians over rounds (lowest-highest); ratios are taken within a "
        "round."
    )


def markdown(result: Result) -> str:
    """Everything below the method."""
    parts = [_table(result.rows), _absent(result.rows), _machine(result), _latency(result), _goals(result)]
    return "\n\n".join(part for part in parts if part)


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| row | settings | where | sentences/s | p50 ms | p99 ms | ours, best / it | labels equal "
        "| cores used | memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.sentences_per_s is None:
            continue
        mark = f" **{row.status}**" if row.status else ""
        cells = [
            f"{row.name}{mark}",
            row.settings,
            row.where,
            _cell(row.sentences_per_s, ".1f"),
            _cell(row.p50_ms, ".0f"),
            _cell(row.p99_ms, ".0f"),
            _cell(row.reference_ratio, ".2f"),
            "-" if row.labels_equal is None else f"{row.labels_equal:.2%} of {row.answered}",
            f"{row.cores:.1f}",
            f"{row.memory_mb:.0f}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    measured = [row.client_cores for row in rows if row.sentences_per_s is not None]
    if measured:
        lines += ["", f"The clients themselves used {min(measured):.2f} to {max(measured):.2f} cores."]
    return "\n".join(lines)


def _absent(rows: Sequence[Row]) -> str:
    absent = [f"- {row.name}: {row.status}" for row in rows if row.sentences_per_s is None]
    return "\n".join(["Without figures:", "", *absent]) if absent else ""


def _machine(result: Result) -> str:
    if not result.rates:
        return ""

    def rate(precision: str) -> str:
        values = Spread.of(rates.of(precision) for rates in result.rates)
        return f"{values:.0f}" if values else "none on this CPU"

    text = (
        f"Matrix products of this machine (2048^3), 10^9 operations/s: FP32 {rate('fp32')}, bf16 {rate('bf16')}, "
        f"INT8 {rate('int8')}."
    )
    blocks = [block for block in result.blocks if block.row == in_process.LIMIT]
    if not (blocks and result.best_precision):
        return text
    used = statistics.median(block.operations_per_s for block in blocks)
    share = goals.share_of_peak(result, in_process.LIMIT, result.best_precision)
    if share is not None:
        text += (
            f" The limit computes {used:.0f} of them (2 x parameters of the encoder x tokens, and attention), "
            f"{share.median:.0%} of the {result.best_precision} rate."
        )
    return text


def _latency(result: Result) -> str:
    if not result.half_loads:
        return ""

    def over(name: str) -> Spread:
        values = Spread.of(getattr(half, name) for half in result.half_loads)
        assert values is not None
        return values

    return (
        f"{ours.BEST}, requests at random times at half of its maximum ({over('per_s'):.1f} a second): p50 "
        f"{over('p50_ms'):.1f} ms, p99 {over('p99_ms'):.1f} ms; a lone client: p50 {over('lone_p50_ms'):.1f} ms, p99 "
        f"{over('lone_p99_ms'):.1f} ms."
    )


def _goals(result: Result) -> str:
    where = "this CPU has AMX" if goals.has_amx() else "this CPU has no AMX, so a goal missed here may be met there"
    lines = [
        f"Goals, set for two cores with AMX ({where}):",
        "",
        "| goal | wanted | found | met |",
        "|---|---|---|---|",
    ]
    lines += [f"| {goal.goal} | {goal.wanted} | {goal.found} | {goal.met} |" for goal in goals.judged(result)]
    return "\n".join(lines)


def _cell(spread: Spread | None, spec: str) -> str:
    return format(spread, spec) if spread else "-"
