"""Labelled text on disk: CSV, TSV and JSONL files of texts, with or without their labels.

Owns how such files are read and what is wrong with one that cannot be. Standard library only: training,
export's accuracy gates and the command line all read the same files through these two functions.

Nothing is skipped silently: a row that cannot be used is an error that names its line. Only lines with
nothing in them at all are passed over (in ``.txt``, where a line is a text, such a line is an error too).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The most that csv accepts on every platform (a C long of 32 bits); its default, 131,072, is a long web page.
_FIELD_SIZE_LIMIT = 2**31 - 1
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_EXCERPT_CHARS = 60


@dataclass(frozen=True)
class LabelledText:
    """One text and the label a person gave it."""

    text: str
    label: str


class LabelledDataError(ValueError):
    """A file of texts cannot be used; the message names the file, the line and the way out."""


@dataclass(frozen=True)
class _Row:
    """One record, by column name, and the line of the file on which it ends."""

    line: int
    values: dict[str, object]


def read_labelled(path: Path, *, text_column: str = "text", label_column: str = "label") -> list[LabelledText]:
    """Read texts and labels from ``path``: ``.csv``, ``.tsv`` (both with a header) or ``.jsonl``.

    Labels come back without surrounding white space; a JSON integer becomes its decimal digits. Texts come
    back exactly as they are in the file.

    Raises:
        LabelledDataError: the file is missing, is no UTF-8, has no such columns, has no rows, or a row lacks its
            text or its label.
    """
    if text_column == label_column:
        raise LabelledDataError(
            f"the text and the label cannot both come from column {text_column!r}: name two columns"
        )
    path = Path(path)
    rows = _required(path, _rows(path, (text_column, label_column)))
    return [LabelledText(_text(path, row, text_column), _label(path, row, label_column)) for row in rows]


def read_texts(path: Path, *, text_column: str = "text") -> list[str]:
    """Read texts from ``path``: ``.csv``, ``.tsv``, ``.jsonl``, or ``.txt`` with one text a line.

    Raises:
        LabelledDataError: the file is missing, is no UTF-8, has no such column, has no rows, or holds an empty text.
    """
    path = Path(path)
    rows: Iterator[_Row]
    if path.suffix.lower() == ".txt":
        rows = (_Row(line, {text_column: text}) for line, text in _lines(_decoded(path)))
    else:
        rows = _rows(path, (text_column,))
    return [_text(path, row, text_column) for row in _required(path, rows)]


def _required(path: Path, rows: Iterator[_Row]) -> list[_Row]:
    found = list(rows)
    if not found:
        raise LabelledDataError(f"{path} holds no texts: expected at least one row")
    return found


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _json_rows(path, columns)
    if suffix in _DELIMITERS:
        return _csv_rows(path, columns, _DELIMITERS[suffix])
    raise LabelledDataError(
        f"{path}: cannot tell the format from the suffix {path.suffix!r}: expected .csv, .tsv or .jsonl"
    )


# --- Formats --------------------------------------------------------------------------------------


def _csv_rows(path: Path, columns: tuple[str, ...], delimiter: str) -> Iterator[_Row]:
    with _huge_fields():
        # strict: a quote out of place is an error on its line, not half the file swallowed into one field
        reader = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise LabelledDataError(f"{path} is empty: expected a header line with {_named(columns)}")
            _check_columns(path, columns, header)
            for cells in reader:
                if not cells:  # a line with nothing in it
                    continue
                if len(cells) != len(header):
                    raise LabelledDataError(
                        f"{path}, line {reader.line_num}: {len(cells)} columns, but the header has {len(header)} "
                        f"({', '.join(header)}); quote a field that holds {delimiter!r}"
                    )
                yield _Row(reader.line_num, dict(zip(header, cells, strict=True)))
        except csv.Error as exc:
            raise LabelledDataError(
                f"{path}, line {reader.line_num}: not well-formed {path.suffix[1:]}: {exc}"
            ) from exc


def _json_rows(path: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    for line, content in _lines(_decoded(path)):
        if not content.strip():
            continue
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise LabelledDataError(f"{path}, line {line}: not JSON: {exc}: {_excerpt(content)}") from exc
        if not isinstance(values, dict):
            raise LabelledDataError(f"{path}, line {line}: expected one JSON object a line, found {_excerpt(content)}")
        _check_columns(path, columns, list(values), line=line)
        yield _Row(line, values)


@contextmanager
def _huge_fields() -> Iterator[None]:
    """Lift the csv module's limit on a field, which is one number for the whole process, and put it back."""
    before = csv.field_size_limit(_FIELD_SIZE_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _decoded(path: Path) -> str:
    """The file's text without its byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as exc:
        raise LabelledDataError(f"no such file: {path}") from exc
    except OSError as exc:
        raise LabelledDataError(f"cannot read {path}: {exc.strerror}") from exc
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        # exc.object, not content: the decoder has taken a byte order mark off before it counts
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise LabelledDataError(
            f"{path}, line {line}: byte 0x{exc.object[exc.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from exc


def _lines(content: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, ended by line feeds only: a text may hold the other characters that str.splitlines() cuts at."""
    for number, line in enumerate(content.removesuffix("\n").split("\n") if content else (), start=1):
        yield number, line.removesuffix("\r")


# --- Values ---------------------------------------------------------------------------------------


def _check_columns(path: Path, columns: tuple[str, ...], found: list[str], *, line: int = 1) -> None:
    for column in columns:
        if found.count(column) != 1:
            what = "no column" if column not in found else f"{found.count(column)} columns called"
            raise LabelledDataError(
                f"{path}, line {line}: {what} {column!r}: expected {_named(columns)}, found {_named(found)}"
            )


def _text(path: Path, row: _Row, column: str) -> str:
    text = row.values[column]
    if not isinstance(text, str):
        raise LabelledDataError(f"{path}, line {row.line}: {column} must be a string, is {_excerpt(text)}")
    if not text.strip():
        raise LabelledDataError(f"{path}, line {row.line}: empty {column}; give it a text or take the line out")
    return _encodable(path, row, column, text)


def _label(path: Path, row: _Row, column: str) -> str:
    label = row.values[column]
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str):
        raise LabelledDataError(f"{path}, line {row.line}: {column} must be a string, is {_excerpt(label)}")
    if not label.strip():
        raise LabelledDataError(f"{path}, line {row.line}: empty {column}; label the text or take the line out")
    return _encodable(path, row, column, label.strip())


def _encodable(path: Path, row: _Row, column: str, value: str) -> str:
    """``value``, unless JSON's escapes have put half a surrogate pair into it."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise LabelledDataError(
            f"{path}, line {row.line}: {column} holds half a surrogate pair (\\u{ord(value[exc.start]):04x}), "
            "which no UTF-8 can carry"
        ) from exc
    return value


def _named(columns: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(column) for column in columns) or "none"


def _excerpt(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _EXCERPT_CHARS else f"{shown[:_EXCERPT_CHARS]}..."
