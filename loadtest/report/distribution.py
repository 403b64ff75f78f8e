"""Latency distributions, from raw samples: every percentile, not four of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from loadtest.cell import CellResult, Run
from loadtest.report.canvas import Key, Plot, canvas, label_axes, logarithmic_y, paint, plot
from loadtest.report.figures import counts
from loadtest.report.selection import SERIES, of_series
from loadtest.samples import ANSWERED, Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 6
MOST_POINTS = 240
FEWEST_SAMPLES = 20
TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
TITLES = {
    "precision": "Latency distribution by model",
    "batch-size": "Latency distribution by batch size",
    "concurrency": "Latency distribution by users",
    "capacity": "Latency distribution by arrival rate",
}
Latencies = npt.NDArray[np.float64]


def distribution_plots(run: Run, samples: Callable[[str], Samples | None]) -> list[Plot]:
    """One plot a series: a line a cell that counts and has samples."""
    plots: list[Plot] = []
    for series in [*SERIES, *dict.fromkeys(c.spec.series for c in run.cells if c.spec.series not in SERIES)]:
        found = [(cell, latencies_ms(samples(cell.spec.id))) for cell in of_series(run, series) if counts(cell)]
        usable = [(cell, latencies) for cell, latencies in found if len(latencies) >= FEWEST_SAMPLES]
        if usable:
            plots.append(_plot(series, usable, f"distribution-{len(plots) + 1}"))
    return plots


def latencies_ms(samples: Samples | None) -> Latencies:
    """Latencies of good answers in milliseconds, sorted."""
    if samples is None:
        return np.empty(0)
    good = samples.latency_s[samples.kind == ANSWERED]
    return np.asarray(np.sort(good[np.isfinite(good) & (good > 0)]) * 1000, np.float64)


def _plot(series: str, found: Sequence[tuple[CellResult, Latencies]], name: str) -> Plot:
    ordered = sorted(found, key=lambda pair: (pair[0].spec.workload.rate_per_s or 0, pair[0].spec.workload.users or 0))
    ordered = sorted(ordered, key=lambda pair: pair[0].spec.batch_size) if series == "batch-size" else ordered
    drawn = _spread(ordered)
    figure, axes = canvas()
    keys = []
    for place, (cell, latencies) in enumerate(drawn):
        colour = f"r{1 + round(place * (MOST_LINES - 1) / max(1, len(drawn) - 1))}"
        _line(axes, latencies, colour)
        keys.append(Key(_label(cell, [other for other, _ in drawn]), colour))
    logarithmic_y(axes, [float(value) for _, latencies in drawn for value in (latencies[0], latencies[-1])])
    _percentile_axis(axes, max(len(latencies) for _, latencies in drawn))
    label_axes(axes, "percentile of the answers, %", "latency, ms (logarithmic)")
    caption = "Raw samples; the tail of a line rests on its last few answers."
    if len(drawn) < len(found):
        caption += f" {len(drawn)} of {len(found)} cells are drawn."
    return plot(figure, name, TITLES.get(series, f"Latency distribution: {series}"), keys, caption)


def _spread(ordered: Sequence[tuple[CellResult, Latencies]]) -> list[tuple[CellResult, Latencies]]:
    """At most six, evenly spread over the order, first and last included."""
    if len(ordered) <= MOST_LINES:
        return list(ordered)
    return [ordered[round(place * (len(ordered) - 1) / (MOST_LINES - 1))] for place in range(MOST_LINES)]


def _label(cell: CellResult, cells: Sequence[CellResult]) -> str:
    """What tells this cell from the others."""
    words = [cell.spec.model] if len({other.spec.model for other in cells}) > 1 else []
    if cell.spec.series == "batch-size" or len({other.spec.batch_size for other in cells}) > 1:
        words.append(f"batch size {cell.spec.batch_size}")
    if not words or len({str(other.spec.workload) for other in cells}) > 1:
        words.append(str(cell.spec.workload))
    return ", ".join(words)


def _line(axes: Axes, latencies: Latencies, colour: str) -> None:
    """The empirical quantile function, thinned out evenly along the axis."""
    count = len(latencies)
    places = np.unique(np.round(count * (1 - 10 ** -np.linspace(0, np.log10(count), MOST_POINTS))).astype(int))
    places = places[places < count]
    axes.plot(
        -np.log10(1 - places / count), latencies[places], color=paint(colour), linewidth=2, solid_joinstyle="round"
    )


def _percentile_axis(axes: Axes, most_samples: int) -> None:
    """0, 50, 90, 99 … at even distances of "one more nine"."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    end = np.log10(most_samples)
    shown = [share for share in TICKS if -np.log10(1 - share) <= end * 1.001]
    axes.set_xlim(0, end)
    axes.grid(axis="x", color=paint("grid"), linewidth=1)
    axes.xaxis.set_major_locator(FixedLocator([-np.log10(1 - share) for share in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _place: f"{100 * (1 - 10**-x):.6g}"))
    axes.xaxis.set_minor_locator(NullLocator())
