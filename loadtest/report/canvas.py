"""Matplotlib figures as inline SVG that a page styles: colours and fonts are CSS variables, for light and dark alike.

Owns how a figure is made and finished; what is drawn is in `loadtest.report.plots`. No pyplot, no global state.
A colour is drawn as a hex code that nothing else uses (`paint`), and replaced by ``var(--plot-…)`` in the finished SVG.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtest.report.figures import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX = 340
HEIGHT_PX = 256
FONT_PX = 12.5

NAMES = (
    *("ink", "muted", "grid", "limit", "published", "bad"),
    *(f"c{place}" for place in range(1, 7)),
    *(f"r{place}" for place in range(1, 7)),
    *("queue", "input", "infer", "output"),
)
_CODES = {name: f"#fa57{place:02x}" for place, name in enumerate(NAMES)}


def paint(name: str) -> str:
    """The stand-in for a colour of the page's palette, one of `NAMES`."""
    return _CODES[name]


@dataclass(frozen=True)
class Key:
    """One entry of a plot's legend, which the page sets as text.

    Attributes:
        label: what it stands for.
        colour: one of `NAMES`.
        style: ``line``, ``dashed``, ``dotted``, ``box`` or ``cross``.
    """

    label: str
    colour: str
    style: str = "line"


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        name: unique on the page: letters, digits and ``-``.
        title: what it shows.
        svg: an ``<svg>`` element.
        keys: its legend.
        caption: how to read it.
    """

    name: str
    title: str
    svg: str
    keys: tuple[Key, ...]
    caption: str


# Left, right, bottom and top of the axes: room for tick labels and for the names of both axes.
MARGINS_PX = (46, 12, 44, 36)


def canvas(height_px: int = HEIGHT_PX, margins_px: tuple[int, int, int, int] = MARGINS_PX) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, styled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PX / 72, height_px / 72), dpi=72)
    FigureCanvasAgg(figure)
    figure.patch.set_visible(False)
    left, right, bottom, top = margins_px
    size = (1 - (left + right) / WIDTH_PX, 1 - (bottom + top) / height_px)
    axes = figure.add_axes((left / WIDTH_PX, bottom / height_px, *size))
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(paint("muted"))
    axes.tick_params(colors=paint("muted"), labelcolor=paint("ink"), labelsize=FONT_PX, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=paint("grid"), linewidth=1)
    axes.set_axisbelow(True)
    return figure, axes


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Names the axes: x below, y above the axis and level, where it can be read."""
    from matplotlib.transforms import IdentityTransform, ScaledTranslation

    axes.set_xlabel(x, fontsize=FONT_PX, color=paint("muted"), labelpad=5)
    text = axes.text(0, 1, y, color=paint("muted"), fontsize=FONT_PX, va="top")
    text.set_transform(axes.transAxes + ScaledTranslation(-44, 32, IdentityTransform()))


def numbers(axis: Any) -> None:
    """Ticks as `number` writes them, never as powers or formulas."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _place: number(value, 1)))
    axis.set_minor_formatter(NullFormatter())


def logarithmic_y(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis around those of ``values`` that are above 0, with ticks that people count in."""
    from matplotlib.ticker import FixedLocator, NullLocator

    positive = [value for value in values if value > 0]
    low, high = min(positive) / 1.25, max(positive) * 1.25
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        ticks = [step * 10.0**power for power in range(-4, 8) for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 4:
            break
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    numbers(axes.yaxis)


def plot(figure: Figure, name: str, title: str, keys: Sequence[Key], caption: str) -> Plot:
    """Finishes a figure."""
    return Plot(name, title, _svg(figure, name), tuple(keys), caption)


def _svg(figure: Figure, name: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's fonts, not matplotlib's, draw the text
        figure.savefig(buffer, format="svg", metadata=no_metadata)
    return _styled(buffer.getvalue(), name)


def _styled(document: str, name: str) -> str:
    """The ``<svg>`` element alone, its colours and fonts left to the page, its ids unique on it."""
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    size = re.search(r'viewBox="[^"]*"', head)
    head = (
        f'<svg {size.group() if size else ""} class="plot" role="img" aria-labelledby="{name}-title" focusable="false"'
    )
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font: \1px var(--sans)", body)
    for colour, code in _CODES.items():
        body = body.replace(code, f"var(--plot-{colour})")
    return f"{head}>{body}"
