"""A table as data: what `loadtest.report.tables` builds and what Markdown, HTML and JSON are written from."""

from __future__ import annotations

from dataclasses import dataclass, replace

PUBLISHED = "published"
MEASURED = "measured here"
COMPUTED = "computed"
_ORDER = ("", MEASURED, COMPUTED, PUBLISHED)

PLAIN = ""
MISSING = "missing"  # nothing was measured
BAD = "bad"  # failed, invalid, over a limit
GOOD = "good"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Value:
    """One cell of a table.

    Attributes:
        text: as it is shown.
        tone: `PLAIN`, `MISSING`, `BAD` or `GOOD`.
    """

    text: str
    tone: str = PLAIN


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: with its unit.
        source: whose figures: `PUBLISHED`, `MEASURED`, `COMPUTED`, or "" for a row's name.
        numeric: whether it is set flush right.
    """

    name: str
    source: str = ""
    numeric: bool = True

    @property
    def heading(self) -> str:
        """Name and source in one, for tables whose head has one line."""
        return f"{self.source}: {self.name}" if self.source else self.name


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: ``T1`` to ``T6``, or another word without blanks.
        title: in a few words.
        columns: from left to right.
        rows: of as many values as there are columns.
        caption: on what and how the measured columns were measured.
        notes: what a reader must know to read it.
        measured: whether any row has a measured figure.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
    measured: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Runs of columns of one source, from left to right, with their lengths."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if runs and runs[-1][0] == column.source:
                runs[-1] = (column.source, runs[-1][1] + 1)
            else:
                runs.append((column.source, 1))
        return runs

    def measured_first(self) -> Table:
        """The same table with the names first, then what was measured, then what is computed and published.

        A narrow window shows the first columns of a wide table, and those are to be the run's own.
        """
        order = sorted(range(len(self.columns)), key=lambda place: _ORDER.index(self.columns[place].source))
        columns = tuple(self.columns[place] for place in order)
        return replace(self, columns=columns, rows=tuple(tuple(row[place] for place in order) for row in self.rows))


def missing(count: int, text: str = NOT_MEASURED) -> tuple[Value, ...]:
    """Values of ``count`` measured columns of a row for which nothing was measured."""
    return (Value(text, MISSING), *(Value("", MISSING) for _ in range(count - 1)))
