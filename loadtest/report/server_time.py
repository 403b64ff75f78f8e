"""Where a request's time goes inside the server: one bar a cell, from Triton's own counters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadtest.cell import CellResult, ModelCounters, Run
from loadtest.report.canvas import FONT_PX, Key, Plot, canvas, paint, plot
from loadtest.report.figures import counts, number
from loadtest.report.selection import SERIES, of_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = (("queue", "queue"), ("compute input", "input"), ("compute infer", "infer"), ("compute output", "output"))
KEYS = tuple(Key(label, colour, "box") for label, colour in PARTS)
TITLES = {
    "precision": "Server time by model",
    "batch-size": "Server time by batch size",
    "concurrency": "Server time by users",
    "capacity": "Server time by arrival rate",
}
_SLOT_PX = 38
_SLOT_OF_TWO_PX = 46
_CAPTION = "Shares of Triton's mean time a request, with the mean in ms at the right."
_TWO = " Upper bar: the text model; lower bar: the tensor model behind it, part of the text model's compute infer."


def server_time_plots(run: Run) -> list[Plot]:
    """One plot a series that has counters."""
    plots: list[Plot] = []
    for series in [*SERIES, *dict.fromkeys(c.spec.series for c in run.cells if c.spec.series not in SERIES)]:
        cells = [cell for cell in of_series(run, series) if cell.server is not None and cell.server.models]
        if cells:
            plots.append(_plot(series, cells, f"server-time-{len(plots) + 1}"))
    return plots


def _plot(series: str, cells: Sequence[CellResult], name: str) -> Plot:
    two = any(cell.server and len(cell.server.models) > 1 for cell in cells)
    slot_px = _SLOT_OF_TWO_PX if two else _SLOT_PX
    height_px = 4 + slot_px * len(cells)
    figure, axes = canvas(height_px, margins_px=(2, 2, 0, 0))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(height_px, 0)
    several = len({cell.spec.model for cell in cells}) > 1
    for place, cell in enumerate(cells):
        _draw(axes, cell, 10 + place * slot_px, _label(cell, several))
    title = TITLES.get(series, f"Server time: {series}")
    return plot(figure, name, title, KEYS, _CAPTION + (_TWO if two else ""))


def _label(cell: CellResult, several_models: bool) -> str:
    words = [cell.spec.model] if several_models else []
    words += (
        [f"batch size {cell.spec.batch_size}"] if cell.spec.batch_size > 1 or cell.spec.series == "batch-size" else []
    )
    words.append(str(cell.spec.workload))
    return ", ".join(words) + ("" if counts(cell) else f" ({cell.verdict})")


def _draw(axes: Axes, cell: CellResult, top_px: float, label: str) -> None:
    models = cell.server.models if cell.server is not None else ()
    totals = " / ".join(number(total_ms(model)) for model in models[:2])
    colour = paint("ink" if counts(cell) else "bad")
    style: dict[str, Any] = {"fontsize": FONT_PX, "va": "center", "parse_math": False}
    axes.text(0, top_px, label if len(label) <= 42 else f"{label[:41]}…", color=colour, ha="left", **style)
    axes.text(1, top_px, f"{totals} ms", color=paint("muted"), ha="right", **style)
    for model, middle_px, thickness_px in zip(models[:2], (top_px + 14, top_px + 23.5), (10, 5), strict=False):
        _bar(axes, model, middle_px, thickness_px)


def _bar(axes: Axes, model: ModelCounters, middle_px: float, thickness_px: float) -> None:
    total = total_ms(model)
    left = 0.0
    for (_, colour), part_ms in zip(PARTS, parts_ms(model), strict=True):
        width = part_ms / total if total else 0.0
        if width > 0:
            axes.barh(middle_px, width, thickness_px, left, color=paint(colour), linewidth=0)
        left += width


def parts_ms(model: ModelCounters) -> tuple[float, float, float, float]:
    """Mean time a request in the queue, reading inputs, computing, writing outputs."""
    return model.queue_ms, model.compute_input_ms, model.compute_infer_ms, model.compute_output_ms


def total_ms(model: ModelCounters) -> float:
    """Mean time a request inside the server."""
    return sum(parts_ms(model))
