"""Reports of a run: tables beside the published ones, plots, one page, Markdown, CSV, JSON.

    Run ──► tables (T1 … T6, cells) ──► markdown · html · json_file · readme
        └─► plots (canvas) ───────────► html
        └─► csv_file

Owns how results are shown; not how they are measured (`loadtest.measure`) or concluded (`loadtest.statistics`,
`loadtest.verdict`). What needs matplotlib or jinja2 is imported when a page is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.cell import CellResult, Run
from loadtest.report.csv_file import cells_csv
from loadtest.report.json_file import report_json
from loadtest.report.markdown import cells_text, report_text, table_text
from loadtest.report.readme import table_markdown, update_readme
from loadtest.report.tables import build_all
from loadtest.results import write_atomically
from loadtest.samples import Samples

__all__ = ["cells_markdown", "table_markdown", "update_readme", "write_report"]


def write_report(
    run: Run, samples: Callable[[str], Samples | None], folder: Path, *, limit_ms: float | None = None
) -> list[Path]:
    """Writes report.html, report.md, cells.csv, report.json and tables/T1.md … T6.md; each file whole or absent.

    Args:
        run: what was measured; nothing in it is measured again.
        samples: raw samples of a cell by its id; None where there are none.
        folder: where to; usually the run's own.
        limit_ms: the P99 limit to judge by; None takes that of the run's capacities, else the published 500 ms.

    Returns:
        The files, the page first.

    Raises:
        ResultsError: a file cannot be written.
    """
    from loadtest.report.html import page

    contents = {
        "report.html": page(run, samples, limit_ms),
        "report.md": report_text(run, limit_ms),
        "cells.csv": cells_csv(run.cells),
        "report.json": report_json(run, limit_ms),
        **{f"tables/{table.key}.md": f"{table_text(table)}\n" for table in build_all(run, limit_ms)},
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def cells_markdown(cells: Sequence[CellResult], limit_ms: float | None = None) -> str:
    """The table of cells that commands print in a terminal, with what it was measured on and every warning."""
    return cells_text(cells, limit_ms)
