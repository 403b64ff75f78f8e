"""The report as one page that opens offline: styles and plots inside, nothing to fetch, readable without JavaScript.

Everything that comes from a run (names, notes, messages of servers) is escaped by the template engine; only the plots,
which `loadtest.report.canvas` finished, are put in as they are. A content security policy forbids loading anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtest.cell import Run
from loadtest.report.cell_table import cell_table
from loadtest.report.details import Details
from loadtest.report.selection import limit_of
from loadtest.report.summary import Summary
from loadtest.report.tables import build_all
from loadtest.samples import Samples

FOLDER = Path(__file__).parent
TEMPLATE = "page.html.j2"
STYLE = "page.css"


def page(run: Run, samples: Callable[[str], Samples | None], limit_ms: float | None = None) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from loadtest.report.plots import all_plots

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = all_plots(run, samples, limit_ms)
    tables = build_all(run, limit_ms)
    limit = limit_of(run, limit_ms)
    return environment.get_template(TEMPLATE).render(
        run=run,
        style=Markup((FOLDER / STYLE).read_text(encoding="utf-8")),  # noqa: S704 - our own file
        summary=Summary.of(run, limit),
        measured=[table for table in tables if table.measured],
        unmeasured=[table for table in tables if not table.measured],
        plots=plots,
        drawings={plot.name: Markup(plot.svg) for plot in plots},  # noqa: S704 - escaped by matplotlib
        cells=cell_table(run.cells, limit, generator=False),
        details=[Details.of(cell) for cell in run.cells],
    )
