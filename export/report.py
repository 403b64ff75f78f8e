"""What an export prints when it is done: a table of the precisions, what failed, and what to do next."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from export.examination import TIMED_BATCH, TIMED_LENGTH
from export.manifest import GateResult
from export.request import ExportReport, PrecisionReport

HEADER = (
    "precision", "MB", "Attention", "SkipLN", "BiasGelu", "EmbedLN", "INT8 matmuls",
    "1 text, ms", f"{TIMED_BATCH} texts, ms", "published",
)  # fmt: skip
FUSED = ("Attention", "SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization")


def render(report: ExportReport) -> str:
    """The report as text for a terminal."""
    blocks = [
        _table([HEADER, *(_row(report, result) for result in report.precisions)]),
        f"Times: medians, {TIMED_LENGTH} tokens a text, ONNX Runtime {metadata.version('onnxruntime')}, "
        f"{_cpu()}, {report.threads} threads.",
        _table([("precision", "gate", "value", "limit", "verdict", "detail"), *_gates(report)]),
        *(f"Note: {note}." for note in report.notes),
        _last(report),
    ]
    return "\n\n".join(blocks)


def _row(report: ExportReport, result: PrecisionReport) -> tuple[str, ...]:
    published = "yes" if result.precision in report.published else "no"
    if result.graph is None or result.timing is None:
        return (result.precision, *["-"] * (len(HEADER) - 2), published)
    return (
        result.precision,
        f"{result.graph.size_bytes / 1e6:.1f}",
        *(str(result.graph.fused[name]) for name in FUSED),
        str(result.graph.quantized_matmuls),
        f"{result.timing.one_text_ms:.2f}",
        f"{result.timing.batch_ms:.1f}",
        published,
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
        "invariance": lambda: (
            f"labels changed of {detail['texts']}; "
            f"largest change of a probability {detail['largest_probability_change']:.2g}"
        ),
        "calibration": lambda: f"recipe {detail['recipe']}, {detail['texts']} texts",
        "fusion": lambda: "fewest of Attention and SkipLayerNormalization",
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


def _cpu() -> str:
    """The processor's name, as the kernel states it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
