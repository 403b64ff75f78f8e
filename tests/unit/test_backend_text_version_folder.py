"""tokenizer.json, labels.json, and the config they must fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.bert_text.decode import TASKS
from backends.bert_text.version_folder import VersionFolderError, check_tensors, read_labels, tensors, tokenizer_path

TASK = TASKS["text-classification"]


def config(num_labels: int = 2) -> dict[str, Any]:
    inputs, outputs = tensors(TASK, num_labels)
    return {"input": inputs, "output": outputs}


def test_a_config_of_the_task_fits() -> None:
    check_tensors(config(3), TASK, 3)


def test_reads_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["négatif", "positif"]', encoding="utf-8")
    assert read_labels(tmp_path) == ["négatif", "positif"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1, 2]", '"positive"', '["a", '])
def test_refuses_labels_that_are_no_list_of_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(VersionFolderError, match=r"labels\.json is not"):
        read_labels(tmp_path)


def test_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VersionFolderError, match=r"labels\.json is missing"):
        read_labels(tmp_path)
    with pytest.raises(VersionFolderError, match=r"tokenizer\.json is missing"):
        tokenizer_path(tmp_path)


def test_refuses_labels_of_another_number() -> None:
    with pytest.raises(VersionFolderError, match=r"PROBABILITIES has dims \[2\]; expected \[3\] .*3 labels"):
        check_tensors(config(2), TASK, 3)


@pytest.mark.parametrize(
    ("kind", "name", "change", "words"),
    [
        ("input", "TEXT", {"data_type": "TYPE_INT64"}, "TEXT is TYPE_INT64; expected TYPE_STRING"),
        ("input", "TEXT", {"name": "TEXTS"}, "inputs are TEXTS; task text-classification has TEXT"),
        ("output", "SCORE", {"dims": ["2"]}, r"SCORE has dims \[2\]; expected \[1\]"),
        ("output", "LABEL", {"name": "CLASS"}, "outputs are CLASS, PROBABILITIES, SCORE"),
    ],
)
def test_refuses_other_tensors(kind: str, name: str, change: dict[str, Any], words: str) -> None:
    changed = json.loads(json.dumps(config()))
    (tensor,) = (tensor for tensor in changed[kind] if tensor["name"] == name)
    tensor.update(change)
    with pytest.raises(VersionFolderError, match=words):
        check_tensors(changed, TASK, 2)


def test_refuses_a_config_without_inputs() -> None:
    with pytest.raises(VersionFolderError, match="inputs are none"):
        check_tensors({"output": config()["output"]}, TASK, 2)
