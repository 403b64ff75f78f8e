"""What an export prints when it is done: a table of the precisions, what failed, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from export import engines, processor
from export.choice import digits
from export.gates import moved
from export.manifest import GateResult
from export.request import ExportReport, PrecisionReport, Tried

HEADER = (
    "precision", "engine", "layout", "MB", "INT8 matmuls", "1 text, ms", "texts/s", "range", "published",
)  # fmt: skip


def render(report: ExportReport) -> str:
    """The report as text for a terminal."""
    blocks = [
        _table([HEADER, *(row for result in report.precisions for row in _rows(report, result))]),
        _how_timed(report),
        _table([("precision", "gate", "value", "limit", "verdict", "detail"), *_gates(report)]),
        *(f"Note: {note}." for note in report.notes),
        _last(report),
    ]
    return "\n\n".join(blocks)


def _how_timed(report: ExportReport) -> str:
    work = report.work
    used = {tried.variant.engine for result in report.precisions for tried in result.tried}
    versions = ", ".join(f"{engine} {engines.version(engine)}" for engine in sorted(used))
    return (
        f"Times: in turn, medians and the slowest to the fastest round; texts/s of {work.texts} texts of mixed lengths "
        f"({work.tokens} tokens) in {len(work.executions)} calls, and one text of {work.lone_tokens} tokens alone; "
        f"{versions}; {processor.name()}, {report.threads} threads."
    )


def _rows(report: ExportReport, result: PrecisionReport) -> Iterator[tuple[str, ...]]:
    """A row for each engine that the precision was built for."""
    if not result.tried:
        yield (result.precision, *["-"] * (len(HEADER) - 2), "no")
    for tried in result.tried:
        yield (result.precision, *_tried(tried), _published(report, result, tried))


def _published(report: ExportReport, result: PrecisionReport, tried: Tried) -> str:
    if tried.failure is not None:
        return "no: failed"
    if tried is not result.chosen:
        return "no: slower"
    return "yes" if result.precision in report.published else "no"


def _tried(tried: Tried) -> tuple[str, ...]:
    variant, timing = tried.variant, tried.timing
    return (
        variant.engine,
        "packed" if variant.packed else "padded",
        f"{variant.graph.size_bytes / 1e6:.1f}",
        str(variant.graph.quantized_matmuls),
        f"{timing.one_text_ms:.2f}",
        digits(timing.texts_per_s),
        "-".join(digits(speed) for speed in timing.texts_per_s_range),
    )


def _gates(report: ExportReport) -> list[tuple[str, ...]]:
    return [_gate(gate) for result in report.precisions for gate in result.gates]


def _gate(gate: GateResult) -> tuple[str, ...]:
    verdict = "allowed" if gate.allowed else "passed" if gate.passed else "FAILED"
    if "not_run" in gate.detail:
        verdict = "not run"
    elif gate.limit is None:
        verdict = "-"
    return gate.precision, gate.gate, _number(gate.value), _number(gate.limit), verdict, _detail(gate)


def _detail(gate: GateResult) -> str:
    detail = gate.detail
    if "not_run" in detail:
        return str(detail["not_run"])
    texts = {
        "logits": lambda: f"largest difference, at {detail['worst']}",
        "accuracy": lambda: f"lost; {_change(detail, 'accuracy')}; macro F1 {_change(detail, 'macro_f1')}",
        "agreement": lambda: (
            f"95 % {detail['interval'][0]:.4f} to {detail['interval'][1]:.4f}, {detail['texts']} texts"
        ),
        "invariance": lambda: f"labels changed of {detail['texts']}; {moved(detail)}",
        "calibration": lambda: f"recipe {detail['recipe']}, {detail['texts']} texts",
        "fusion": lambda: ", ".join(f"{count} {operator}" for operator, count in detail.items()),
        "eval-size": lambda: (
            f"labelled texts{', ' + str(detail['truncated']) + ' of them truncated' if 'truncated' in detail else ''}"
        ),
    }
    return texts[gate.gate]() if gate.gate in texts else ""


def _change(detail: dict[str, Any], score: str) -> str:
    low, high = detail[f"{score}_difference_interval"]
    return f"{detail[f'reference_{score}']:.4f} -> {detail[score]:.4f}, 95 % {low:+.4f} to {high:+.4f}"


def _last(report: ExportReport) -> str:
    """What was written and what to run next."""
    request = report.request
    if not report.served:
        return f"Nothing was written to {request.output}."
    models = [request.name, *(f"{request.name}_{precision}" for precision in report.published)]
    served = ", ".join(f"{precision} on {hardware}" for hardware, precision in report.served.items())
    if request.dry_run:
        what = f"version {report.version} of {', '.join(models)} to {request.output}"
        return f"Dry run: would write {what} ({request.name} calls {served})."
    folder = "" if request.output == Path("model_repository") else f" --model-repository {request.output}"
    return (
        f"Wrote version {report.version} of {', '.join(models)} to {request.output} ({request.name} calls {served}). "
        f"Next: python -m server{folder}"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"
