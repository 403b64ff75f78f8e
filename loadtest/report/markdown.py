"""Tables and the whole report as Markdown; padded, but for READMEs, so that it can be read unrendered in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.cell import CellResult, Run
from loadtest.report.cell_table import cell_table
from loadtest.report.selection import limit_of
from loadtest.report.summary import Summary, remarks
from loadtest.report.table import Table
from loadtest.report.tables import build_all


def escaped(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown or HTML would act on."""
    flat = " ".join(text.split())
    for character in "\\|*`":
        flat = flat.replace(character, f"\\{character}")
    return flat.replace("](", "]\\(").replace("&", "&amp;").replace("<", "&lt;")


def table_lines(table: Table, *, padded: bool = True) -> list[str]:
    """The rows of a table; the head names the source of each column."""
    head = [escaped(column.heading) for column in table.columns]
    body = [[escaped(value.text) for value in row] for row in table.rows]
    widths = [max(len(row[place]) for row in [head, *body]) if padded else 3 for place in range(len(head))]
    rights = [column.numeric for column in table.columns]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, rights, strict=True)]
    return [_line(cells, widths, rights) for cells in (head, rule, *body)]


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = [
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(cells, widths, rights, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def table_text(table: Table, *, compact: bool = False) -> str:
    """A table with its title, caption and notes; compact: without title and padding, all text in one paragraph."""
    if compact:
        below = " ".join(escaped(text) for text in (table.caption, *table.notes))
        return "\n".join([*table_lines(table, padded=False), "", below])
    notes = [f"- {escaped(note)}" for note in table.notes]
    title = f"### {table.key}. {escaped(table.title)}"
    return "\n".join([title, "", *table_lines(table), "", escaped(table.caption), *([""] if notes else []), *notes])


def cells_text(cells: Sequence[CellResult], limit_ms: float | None = None) -> str:
    """The table that commands print in a terminal, with what it was measured on, and every warning."""
    if not cells:
        return "No cell was measured."
    table = cell_table(cells, limit_ms)
    lines = [*table_lines(table), "", escaped(table.caption)]
    lines += [f"- {', '.join(ids)}: {escaped(text)}" for text, ids in remarks(cells)]
    return "\n".join(lines)


def report_text(run: Run, limit_ms: float | None = None) -> str:
    """The whole report."""
    summary = Summary.of(run, limit_of(run, limit_ms))
    head = [f"# Load test: {escaped(run.name)}", "", escaped(summary.sentence), ""]
    facts = [f"- {escaped(name)}: {escaped(text)}" for name, text in summary.facts]
    findings = [f"- {escaped(text)}" for text in summary.findings]
    tables = [part for table in build_all(run, limit_ms) for part in (table_text(table), "")]
    cells = ["## Cells", "", cells_text(run.cells, limit_ms)]
    sections = [*head, *facts, ""]
    if findings:
        sections += ["## Findings", "", *findings, ""]
    return "\n".join([*sections, "## Tables", "", *tables, *cells, ""])
