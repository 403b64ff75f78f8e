"""Tables in a README: what stands between ``<!-- table T3 -->`` and ``<!-- end of table T3 -->`` is replaced."""

from __future__ import annotations

import re
from pathlib import Path

from loadtest.cell import Run
from loadtest.errors import ResultsError
from loadtest.report.markdown import table_text
from loadtest.report.tables import README_NUMBERS, build
from loadtest.results import write_atomically


def table_markdown(number: int, run: Run, limit_ms: float | None = None) -> str:
    """Table 1 to 6 with what it was measured on, as compact Markdown without a title."""
    return table_text(build(number, run, limit_ms), compact=True)


def update_readme(readme: Path, run: Run, limit_ms: float | None = None) -> None:
    """Writes T1 to T5 between their markers; the file is replaced whole, or left alone.

    Raises:
        ResultsError: it cannot be read or written, or a marker is missing, doubled or out of order.
    """
    try:
        text = readme.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ResultsError(f"--readme {readme} cannot be read: {exc}") from exc
    for number in README_NUMBERS:
        text = _replaced(text, number, table_markdown(number, run, limit_ms), readme)
    write_atomically(readme, text)


def markers(number: int) -> tuple[str, str]:
    """The comments that enclose a table."""
    return f"<!-- table T{number} -->", f"<!-- end of table T{number} -->"


def _replaced(text: str, number: int, table: str, readme: Path) -> str:
    start, end = markers(number)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        found = f"{text.count(start)} of {start!r} and {text.count(end)} of {end!r}"
        raise ResultsError(
            f"{readme}: found {found}, expected one of each, in this order; put both where T{number} is to stand"
        )
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _match: f"{start}\n{table}\n{end}", text)
