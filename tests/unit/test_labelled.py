"""`bert_triton_client.labelled`: what is read, and what each unusable file is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_triton_client.labelled import LabelledDataError, LabelledText, read_labelled, read_texts

GOOD = [LabelledText("a fine, film", "positive"), LabelledText('he said "no"\nand left', "negative")]


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_table(path: Path, rows: list[LabelledText], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "text", "label"])
        writer.writerows([str(index), row.text, row.label] for index, row in enumerate(rows))
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_tables(tmp_path: Path, suffix: str, delimiter: str) -> None:
    path = write_table(tmp_path / f"texts.{suffix}", GOOD, delimiter)
    assert read_labelled(path) == GOOD
    assert read_texts(path) == [row.text for row in GOOD]


def test_jsonl(tmp_path: Path) -> None:
    lines = [json.dumps({"text": row.text, "label": row.label, "id": 3}) for row in GOOD]
    path = write(tmp_path, "texts.jsonl", "\n".join([lines[0], "", lines[1]]))
    assert read_labelled(path) == GOOD


def test_jsonl_integer_labels_become_digits(tmp_path: Path) -> None:
    path = write(tmp_path, "texts.jsonl", '{"text": "a", "label": 1}\n')
    assert read_labelled(path) == [LabelledText("a", "1")]


def test_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "texts.csv", "review , stars\ngood, 5\n")
    assert read_labelled(path, text_column="review", label_column="stars") == [LabelledText("good", "5")]


@pytest.mark.parametrize("name", ["texts.csv", "texts.jsonl", "texts.txt"])
def test_byte_order_mark_and_crlf(tmp_path: Path, name: str) -> None:
    content = {"texts.csv": "text\r\none\r\ntwo\r\n", "texts.jsonl": '{"text":"one"}\r\n{"text":"two"}\r\n'}
    path = write(tmp_path, name, b"\xef\xbb\xbf" + content.get(name, "one\r\ntwo\r\n").encode())
    assert read_texts(path) == ["one", "two"]


def test_huge_field_is_read_and_the_limit_of_the_process_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    huge = "x" * 1_000_000
    path = write(tmp_path, "texts.csv", f"text,label\n{huge},a\n")
    assert read_labelled(path)[0].text == huge
    assert csv.field_size_limit() == before


def test_text_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path, "texts.txt", "one\u2028still one\x85\ntwo")) == ["one\u2028still one\x85", "two"]


UNUSABLE: dict[str, tuple[str, str | bytes, list[str]]] = {
    "no column": ("a.csv", "sentence,label\na,b\n", ["line 1", "no column 'text'", "'sentence', 'label'"]),
    "column twice": ("a.csv", "text,text,label\na,b,c\n", ["2 columns called 'text'"]),
    "empty csv": ("a.csv", "", ["is empty", "header"]),
    "empty jsonl": ("a.jsonl", "", ["holds no texts"]),
    "header only": ("a.csv", "text,label\n", ["holds no texts"]),
    "empty label": ("a.csv", "text,label\na,b\nc, \n", ["line 3", "empty label"]),
    "empty text": ("a.csv", 'text,label\n" ",b\n', ["line 2", "empty text"]),
    "too few columns": ("a.csv", "text,label\na\n", ["line 2", "1 columns", "the header has 2"]),
    "too many columns": ("a.csv", "text,label\na, b, c\n", ["line 2", "3 columns", "quote"]),
    "open quote": ("a.csv", 'text,label\n"a,b\nc,d\n', ["line 3", "not well-formed csv"]),
    "stray quote": ("a.tsv", 'text\tlabel\n"a" b\tc\n', ["line 2", "not well-formed tsv"]),
    "bad JSON": ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": \n', ["line 2", "not JSON"]),
    "deep JSON": ("a.jsonl", "[" * 100_000 + "\n", ["line 1", "not JSON"]),
    "no object": ("a.jsonl", '["a", "b"]\n', ["line 1", "JSON object"]),
    "no label": ("a.jsonl", '{"text": "a"}\n', ["line 1", "no column 'label'", "found 'text'"]),
    "null label": ("a.jsonl", '{"text": "a", "label": null}\n', ["line 1", "label must be a string", "None"]),
    "true label": ("a.jsonl", '{"text": "a", "label": true}\n', ["line 1", "label must be a string"]),
    "number for text": ("a.jsonl", '{"text": 7, "label": "b"}\n', ["line 1", "text must be a string", "7"]),
    "half a surrogate pair": ("a.jsonl", '{"text": "\\ud83d", "label": "b"}\n', ["line 1", "surrogate", "\\ud83d"]),
    "no UTF-8": ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,b\n", ["line 2", "0xe9", "not UTF-8"]),
    "UTF-16": ("a.csv", "text,label\na,b\n".encode("utf-16"), ["line 1", "not UTF-8"]),
    "suffix": ("a.xlsx", "text,label\na,b\n", ["'.xlsx'", ".csv, .tsv or .jsonl"]),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_file(tmp_path: Path, case: str) -> None:
    name, content, expected = UNUSABLE[case]
    path = write(tmp_path, name, content)
    with pytest.raises(LabelledDataError) as raised:
        read_labelled(path)
    assert all(part in str(raised.value) for part in [str(path), *expected]), str(raised.value)
    assert len(str(raised.value)) < 500


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataError, match="no such file: "):
        read_labelled(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(LabelledDataError, match=r"cannot read .*folder\.csv"):
        read_labelled(tmp_path / "folder.csv")


def test_empty_line_of_a_text_file(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataError, match="line 2: empty text"):
        read_texts(write(tmp_path, "texts.txt", "one\n\ntwo\n"))


def test_same_column_twice(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataError, match="name two columns"):
        read_labelled(tmp_path / "any.csv", text_column="text", label_column="text")


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
LABELS = TEXTS.map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(rows=st.lists(st.builds(LabelledText, TEXTS, LABELS), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path: Path, rows: list[LabelledText]) -> None:
    assert read_labelled(write_table(tmp_path / "texts.csv", rows)) == rows
    assert read_labelled(write_table(tmp_path / "texts.tsv", rows, "\t")) == rows
    lines = [json.dumps({"text": row.text, "label": row.label}, ensure_ascii=False) for row in rows]
    assert read_labelled(write(tmp_path, "texts.jsonl", "\n".join(lines))) == rows
