"""The plots of a run: what is drawn. How a figure is made and styled is in `loadtest.report.canvas`.

A cell that failed or is invalid is a cross on the edge of its plot: that it was tried, at what load, but no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loadtest.cell import CellResult, Estimate, Run
from loadtest.report import references
from loadtest.report.canvas import Key, Plot, canvas, label_axes, logarithmic_y, numbers, paint, plot
from loadtest.report.distribution import distribution_plots
from loadtest.report.figures import counts, number
from loadtest.report.selection import Group, batch_groups, limit_of, load_cells
from loadtest.report.server_time import server_time_plots
from loadtest.samples import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PUBLISHED_KEY = Key(references.SOURCE, "published", "dashed")
CROSS_KEY = Key("failed or invalid: no number", "bad", "cross")
MOST_GROUPS = 6


def all_plots(run: Run, samples: Callable[[str], Samples | None], limit_ms: float | None = None) -> list[Plot]:
    """Every plot that the run has cells for, in the order of the page."""
    limit = limit_of(run, limit_ms)
    return [
        *_batch_size_plots(batch_groups(run), limit),
        *_load_plots(run, limit),
        *server_time_plots(run),
        *distribution_plots(run, samples),
    ]


# --- Against batch size ---------------------------------------------------------------------------


def _batch_size_plots(groups: Sequence[Group], limit_ms: float) -> list[Plot]:
    if not groups:
        return []
    drawn = groups[:MOST_GROUPS]
    more = f" {len(drawn)} of {len(groups)} sweeps are drawn." if len(groups) > len(drawn) else ""
    return [
        replace(found, caption=found.caption + more) for found in (_throughput_plot(drawn), _p99_plot(drawn, limit_ms))
    ]


def _throughput_plot(groups: Sequence[Group]) -> Plot:
    figure, axes = canvas()
    _published_line(axes, [float(row.sentences_per_s) for row in references.T3])
    for place, group in enumerate(groups, 1):
        _line(axes, group, f"c{place}", lambda cell: cell.client.sentences_per_s)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.08)
    numbers(axes.yaxis)
    _batch_axis(axes, groups)
    label_axes(axes, "batch size (texts a request)", "sentences/s")
    caption = "Bars are 95 % intervals. The published curve is of other hardware: compare shapes, not heights."
    return plot(figure, "batch-throughput", "Throughput against batch size", _batch_keys(groups), caption)


def _p99_plot(groups: Sequence[Group], limit_ms: float) -> Plot:
    figure, axes = canvas()
    published = [float(row.p99_ms) for row in references.T3]
    _published_line(axes, published)
    seen = [*published, limit_ms]
    for place, group in enumerate(groups, 1):
        seen += _line(axes, group, f"c{place}", lambda cell: cell.client.latency_ms.get("p99"))
    logarithmic_y(axes, seen)
    _limit(axes, limit_ms)
    _batch_axis(axes, groups)
    label_axes(axes, "batch size (texts a request)", "P99, ms (logarithmic)")
    keys = [*_batch_keys(groups), Key(f"limit {number(limit_ms)} ms", "limit")]
    caption = "Bars are 95 % intervals; a point without one has too few samples for it."
    return plot(figure, "batch-p99", "P99 against batch size", keys, caption)


def _published_line(axes: Axes, values: Sequence[float]) -> None:
    sizes = [row.batch_size for row in references.T3]
    axes.plot(sizes, values, "--", color=paint("published"), linewidth=1.75, marker="D", markersize=4, fillstyle="none")


def _line(axes: Axes, group: Group, colour: str, value: Callable[[CellResult], Estimate | None]) -> list[float]:
    """Draws the cells that count as a line with intervals, the others as crosses; returns every y that was drawn."""
    points = [(cell.spec.batch_size, found) for cell in group.cells if counts(cell) and (found := value(cell))]
    _crosses(axes, [cell.spec.batch_size for cell in group.cells if not counts(cell)])
    return _with_intervals(axes, points, colour)


def _with_intervals(
    axes: Axes, points: Sequence[tuple[float, Estimate]], colour: str, line: str = "-", marker: str = "o"
) -> list[float]:
    if not points:
        return []
    xs = [x for x, _ in points]
    ys = [y.value for _, y in points]
    below = [y.value - (y.value if y.low is None else min(y.low, y.value)) for _, y in points]
    above = [(y.value if y.high is None else max(y.high, y.value)) - y.value for _, y in points]
    axes.errorbar(
        xs,
        ys,
        yerr=[below, above],
        color=paint(colour),
        linestyle=line,
        marker=marker,
        markersize=5,
        linewidth=2,
        elinewidth=1.5,
        capsize=3,
    )
    lows = [y - low for y, low in zip(ys, below, strict=True) if y > low]
    return [*lows, *ys, *(y + high for y, high in zip(ys, above, strict=True))]


def _crosses(axes: Axes, xs: Sequence[float], y: float = 1.035) -> None:
    """Crosses above the plot, where no value is: the loads at which cells do not count."""
    if xs:
        axes.plot(
            xs,
            [y] * len(xs),
            linestyle="",
            marker="x",
            markersize=8,
            markeredgewidth=2.25,
            color=paint("bad"),
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def _limit(axes: Axes, limit_ms: float) -> None:
    axes.axhline(limit_ms, color=paint("limit"), linewidth=1.5)


def _batch_axis(axes: Axes, groups: Sequence[Group]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = {row.batch_size for row in references.T3} | {cell.spec.batch_size for g in groups for cell in g.cells}
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(sizes) / 1.2, max(sizes) * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    numbers(axes.xaxis)


def _batch_keys(groups: Sequence[Group]) -> list[Key]:
    keys = [Key(f"measured here: {group.label}", f"c{place}") for place, group in enumerate(groups, 1)]
    keys.append(PUBLISHED_KEY)
    return [*keys, CROSS_KEY] if any(not counts(cell) for group in groups for cell in group.cells) else keys


# --- Against load ---------------------------------------------------------------------------------

_PERCENTILES = (("p50", "c1"), ("p95", "c3"), ("p99", "c4"))


def _load_plots(run: Run, limit_ms: float) -> list[Plot]:
    models = load_cells(run)
    return [_load_plot(model, cells, limit_ms, place) for place, (model, cells) in enumerate(models.items(), 1)]


def _load_plot(model: str, cells: Sequence[CellResult], limit_ms: float, place: int) -> Plot:
    """Percentiles over the rate achieved; users joined by solid lines, arrival rates by dotted ones."""
    figure, axes = canvas()
    by_users = sorted((c for c in cells if c.spec.workload.users), key=lambda cell: cell.spec.workload.users or 0)
    by_rate = sorted((c for c in cells if c.spec.workload.users is None), key=lambda c: c.spec.workload.rate_per_s or 0)
    seen = [limit_ms]
    for ordered, line, marker in ((by_users, "-", "o"), (by_rate, ":", "D")):
        seen += _percentile_lines(axes, ordered, line, marker)
        _crosses(
            axes,
            [cell.spec.workload.rate_per_s or cell.client.requests_per_s.value for cell in ordered if not counts(cell)],
        )
    axes.set_xlim(left=0)
    numbers(axes.xaxis)
    logarithmic_y(axes, seen)
    _limit(axes, limit_ms)
    label_axes(axes, "requests/s answered, one text each", "latency, ms (logarithmic)")
    keys = [Key(name, colour) for name, colour in _PERCENTILES]
    keys += [Key("closed: users added", "muted", "line")] if by_users else []
    keys += [Key("open: arrival rate", "muted", "dotted")] if by_rate else []
    keys.append(Key(f"limit {number(limit_ms)} ms", "limit"))
    keys += [CROSS_KEY] if any(not counts(cell) for cell in cells) else []
    caption = "Bars are 95 % intervals of the p99. " + _users_caption(by_users)
    return plot(figure, f"load-{place}", f"Latency against load: {model}", keys, caption.strip())


def _users_caption(by_users: Sequence[CellResult]) -> str:
    users = [str(cell.spec.workload.users) for cell in by_users if counts(cell)]
    return f"Circles, from left: {', '.join(users)} users." if users else ""


def _percentile_lines(axes: Axes, cells: Sequence[CellResult], line: str, marker: str) -> list[float]:
    seen: list[float] = []
    for name, colour in _PERCENTILES:
        points = [
            (cell.client.requests_per_s.value, cell.client.latency_ms[name])
            for cell in cells
            if counts(cell) and name in cell.client.latency_ms
        ]
        if name != "p99":
            points = [(x, Estimate(y.value)) for x, y in points]
        seen += _with_intervals(axes, points, colour, line, marker)
    return seen
