"""Which published precision the text model calls on each kind of hardware, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bert_triton_client.contract import PRECISIONS, PREFERRED_PRECISIONS
from export.request import ExportRequest, PrecisionReport

CPU = "cpu"
# What is less than this slower counts as equally fast: medians of one minute on a shared machine tell no less apart.
TOLERANCE = 0.03


def served(request: ExportRequest, reports: Sequence[PrecisionReport]) -> tuple[dict[str, str], str]:
    """The precision that the text model calls on each hardware, and a sentence that says why the one on the CPU.

    Nothing when nothing was published, or when ``--serve-precision`` asks for one that was not.
    """
    published = {report.precision: report for report in reports if report.failure is None}
    asked = request.serve_precision
    if not published or (asked is not None and asked not in published):
        return {}, ""
    speeds = {name: report.timing.texts_per_s for name, report in published.items() if report.timing is not None}
    choice = {
        hardware: next(precision for precision in preferred if precision in published)
        for hardware, preferred in PREFERRED_PRECISIONS.items()
    }
    if speeds:
        choice[CPU] = fastest(speeds)
    if asked is not None:
        choice[request.options.hardware] = asked
    return choice, _reason(request, choice[CPU], published, speeds)


def fastest(speeds: Mapping[str, float]) -> str:
    """The precision with the highest of ``speeds``; among those within `TOLERANCE` of it, the most precise."""
    least = max(speeds.values()) * (1 - TOLERANCE)
    return next(precision for precision in PRECISIONS if speeds.get(precision, 0.0) >= least)


def _reason(
    request: ExportRequest, chosen: str, published: Mapping[str, PrecisionReport], speeds: Mapping[str, float]
) -> str:
    if request.serve_precision is not None and request.options.hardware == CPU:
        why = "as --serve-precision asks"
    elif len(published) == 1:
        why = "the only one published"
    elif speeds and speeds[chosen] < max(speeds.values()):
        quicker = max(speeds, key=lambda precision: speeds[precision])
        why = f"which is within {TOLERANCE:.0%} of {quicker} and more precise"
    else:
        why = "the fastest of those published"
    figures = ", ".join(
        f"{precision} {digits(speed)}" for precision, speed in sorted(speeds.items(), key=lambda item: -item[1])
    )
    measured = f" (texts/s of mixed lengths on this CPU: {figures})" if figures else ""
    return f"on the CPU {request.name} calls {chosen}, served by {published[chosen].engine}, {why}{measured}"


def digits(speed: float) -> str:
    """``speed`` with three digits, or all of a large one."""
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"
