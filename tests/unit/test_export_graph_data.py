"""Which texts judge, which calibrate, and how labels in a file are matched to the checkpoint's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_triton_client.labelled import LabelledText
from export.data import MAX_CALIBRATION_TEXTS, match, read, split
from export.errors import DataError, LabelError


def rows(count: int) -> list[LabelledText]:
    return [LabelledText(f"text {index}", "ab"[index % 2]) for index in range(count)]


@pytest.mark.parametrize(
    ("count", "calibration"),
    [(10_000, 500), (2500, 500), (2300, 300), (2050, 50), (2049, 0), (2000, 0), (1000, 200), (260, 52), (100, 0)],
)
def test_split(count: int, calibration: int) -> None:
    """Judging comes first: only what it does not need calibrates, and too few texts do not calibrate at all."""
    texts = split(rows(count), seed=0)
    assert texts.labelled is not None
    assert len(texts.calibration) == calibration
    assert len(texts.labelled) == count - calibration
    assert not {row.text for row in texts.labelled} & set(texts.calibration)


def test_split_is_the_same_every_time_and_another_for_another_seed() -> None:
    assert split(rows(2400), seed=0) == split(rows(2400), seed=0)
    assert split(rows(2400), seed=0) != split(rows(2400), seed=1)


def test_calibration_data_leave_all_labelled_texts_to_judge(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("text,label\n" + "good,a\n" * 300, encoding="utf-8")
    (tmp_path / "texts.txt").write_text("".join(f"line {index}\n" for index in range(900)), encoding="utf-8")
    texts = read(tmp_path / "eval.csv", tmp_path / "texts.txt", text_column="text", label_column="label", seed=0)
    assert texts.labelled is not None
    assert len(texts.labelled) == 300
    assert len(texts.calibration) == MAX_CALIBRATION_TEXTS


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("sentence,stars\ngood,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"eval\.csv"):
        read(tmp_path / "eval.csv", None, text_column="text", label_column="label", seed=0)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("no", "yes"), ("no", "yes")),
        (("NO", "Yes"), ("no", "yes")),
        (("0", "1"), ("no", "yes")),
        (("1", "0"), ("1", "0")),  # names come before ids
    ],
)
def test_labels_match_by_name_then_by_case_then_by_id(names: tuple[str, str], labels: tuple[str, str]) -> None:
    found = match([LabelledText("a", names[0]), LabelledText("b", names[1])], labels)
    assert found.labels.tolist() == [0, 1]
    assert found.texts == ("a", "b")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("no", "maybe"), ("no", "yes")),
        (("0", "2"), ("no", "yes")),
        (("no", "1"), ("no", "yes")),  # names and ids are not mixed
        (("YES", "Yes"), ("YES", "yes")),  # which one is meant?
    ],
)
def test_other_labels_name_both_sets(names: tuple[str, str], labels: tuple[str, str]) -> None:
    with pytest.raises(LabelError) as caught:
        match([LabelledText("a", name) for name in names], labels)
    for name in (*names, *labels):
        assert name in str(caught.value)


def test_many_other_labels_are_cut_short() -> None:
    with pytest.raises(LabelError, match=r"\.\.\. \(40 in all\)"):
        match([LabelledText("a", f"label {index}") for index in range(40)], ("no", "yes"))
