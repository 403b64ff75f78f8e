"""`finetune.data`: reading, splitting and checking labelled texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_triton_client.labelled import LabelledText
from finetune.data import DataSource, hold_out, load
from finetune.errors import DataError


def texts(label: str, count: int) -> list[LabelledText]:
    return [LabelledText(f"{label} {index}", label) for index in range(count)]


def write(path: Path, rows: list[LabelledText]) -> Path:
    path.write_text("text,label\n" + "".join(f"{row.text},{row.label}\n" for row in rows), encoding="utf-8")
    return path


def test_hold_out_keeps_the_proportions_and_the_order() -> None:
    rows = texts("a", 800) + texts("b", 200)
    train, held = hold_out(rows, 0.1, seed=1)
    assert Counter(row.label for row in held) == {"a": 80, "b": 20}
    assert sorted(train + held, key=rows.index) == rows
    assert train == sorted(train, key=rows.index)


def test_hold_out_repeats_by_seed() -> None:
    rows = texts("a", 100)
    assert hold_out(rows, 0.2, seed=1) == hold_out(rows, 0.2, seed=1)
    assert hold_out(rows, 0.2, seed=1) != hold_out(rows, 0.2, seed=2)


@given(
    rows=st.lists(st.builds(LabelledText, st.sampled_from("pqrstuvw"), st.sampled_from("abc")), max_size=40),
    share=st.floats(0.05, 0.9),
)
def test_hold_out_never_has_a_text_on_both_sides(rows: list[LabelledText], share: float) -> None:
    train, held = hold_out(rows, share, seed=7)
    assert Counter(train) + Counter(held) == Counter(rows)
    assert not {row.text for row in train} & {row.text for row in held}


def test_labels_are_sorted_numbers_by_value(tmp_path: Path) -> None:
    rows = texts("10", 3) + texts("9", 3)
    dataset = load(DataSource(write(tmp_path / "train.csv", rows)), seed=1)
    assert dataset.labels == ("9", "10")
    assert dataset.label_ids(rows) == [1, 1, 1, 0, 0, 0]
    assert len(dataset.validation) == 2
    assert dataset.test == ()


def test_given_parts_are_used_as_they_are(tmp_path: Path) -> None:
    train, validation, test = (
        write(
            tmp_path / f"{name}.csv", [LabelledText(f"{name} {label} {i}", label) for label in "ab" for i in range(2)]
        )
        for name in ("train", "validation", "test")
    )
    dataset = load(DataSource(train, validation, test), seed=1)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (texts("a", 5), r"train.csv has one label only \('a'\)"),
        (texts("a", 5) + texts("b", 1), r"1 labels with fewer than 2 texts \('b'\)"),
    ],
)
def test_too_few_labels(tmp_path: Path, rows: list[LabelledText], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataSource(write(tmp_path / "train.csv", rows)), seed=1)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_unknown_label(tmp_path: Path, part: str) -> None:
    train = write(tmp_path / "train.csv", texts("a", 3) + texts("b", 3))
    other = write(tmp_path / f"{part}.csv", texts("c", 3))
    with pytest.raises(DataError, match=rf"{part}.csv has labels that the training texts lack: 'c'; expected 'a', 'b'"):
        load(DataSource(train, **{part: other}), seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_held_out_text_that_is_trained_on(tmp_path: Path, part: str) -> None:
    train = write(tmp_path / "train.csv", texts("a", 30) + texts("b", 30))
    other = write(tmp_path / f"{part}.csv", texts("a", 1))
    with pytest.raises(DataError, match=f"1 {part} texts of .*{part}.csv are trained on too .*'a 0'"):
        load(DataSource(train, **{part: other}, validation_share=0.02), seed=3)  # type: ignore[arg-type]


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(DataSource(tmp_path / "none.csv"), seed=1)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_validation_share(share: float) -> None:
    with pytest.raises(DataError, match="validation_share"):
        DataSource(Path("a.csv"), validation_share=share)


def test_label_without_two_different_texts(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", texts("a", 5) + [LabelledText("same", "b")] * 5)
    with pytest.raises(DataError, match="too few different texts for 'b'"):
        load(DataSource(train), seed=1)
