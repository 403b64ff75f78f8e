"""Manifests: what is written is read back, and a folder that differs from its manifest is found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy
import pytest

from export import manifest
from export.errors import RepositoryError
from export.manifest import (
    CheckpointSource,
    EngineReport,
    EngineTiming,
    GateResult,
    GraphReport,
    Manifest,
    ModelArchitecture,
    hash_files,
    read_labels,
    verify,
)

ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def full(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "model": "sentiment_int8",
        "version": 3,
        "task": "text-classification",
        "precision": "int8",
        "checkpoint": CheckpointSource("someone/some-bert", "0123abc", "f" * 64, "apache-2.0"),
        "opset": {"": 17, "com.microsoft": 1},
        "ir_version": 8,
        "tools": {"onnx": "1.23.2"},
        "gates": (GateResult("logits", "int8", 0.05, 0.1, passed=True, detail={"batch_size": 3}),),
        "graph": GraphReport(123, {"MatMul": 2}, {"Attention": 6}, 12),
        "files": {"model.onnx": ABC_SHA256},
        "architecture": ModelArchitecture("bert", 6, 384, 12),
        "engine": EngineReport(
            "openvino",
            "2026.4.0",
            "packed",
            2,
            "some CPU",
            ("avx2",),
            (EngineTiming("openvino", True, 200.0, (190.0, 210.0), 5.0, 9),),
        ),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"abc")
    full().write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "precision": None,
            "graph": None,
            "ir_version": None,
            "opset": {},
            "gates": (),
            "architecture": None,
            "engine": None,
        },
    ],
)
def test_what_is_written_is_read_back(changes: dict[str, object]) -> None:
    assert Manifest.from_json(full(**changes).to_json()) == full(**changes)


def test_every_field_of_the_json_is_documented() -> None:
    documented = set(re.findall(r"^    (\w+) ", manifest.__doc__ or "", re.MULTILINE))
    assert documented == set(json.loads(full().to_json()))


def test_licences_in_any_script_stay_readable() -> None:
    assert "许可证" in full(checkpoint=CheckpointSource("x", licence="许可证")).to_json()


def test_numbers_that_json_cannot_say() -> None:
    detail = {"largest": float("inf"), "texts": numpy.int64(3), "differences": [numpy.float32(0.5)]}
    gate = GateResult("logits", "fp16", float("nan"), 0.02, passed=False, detail=detail)
    written = json.loads(full(gates=(gate,)).to_json())["gates"][0]
    assert written["value"] is None
    assert written["detail"] == {"largest": None, "texts": 3, "differences": [0.5]}


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_an_unknown_format_is_refused(number: object) -> None:
    fields = {**json.loads(full().to_json()), "format": number}
    with pytest.raises(RepositoryError, match=rf"here\.json has manifest format {number!r}; expected 1"):
        Manifest.from_json(json.dumps(fields), "here.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 1, "checkpoint": 3, "gates": []}'])
def test_what_is_not_a_manifest_is_refused(text: str) -> None:
    with pytest.raises(RepositoryError, match=r"manifest\.json"):
        Manifest.from_json(text)


@pytest.mark.parametrize("field", ["architecture", "engine"])
def test_a_manifest_of_before_a_field_was_recorded_is_read(field: str) -> None:
    fields = json.loads(full().to_json())
    del fields[field]
    assert Manifest.from_json(json.dumps(fields)) == full(**{field: None})


def test_an_unknown_field_is_refused() -> None:
    fields = {**json.loads(full().to_json()), "novelty": 1}
    with pytest.raises(RepositoryError, match="novelty"):
        Manifest.from_json(json.dumps(fields))


def test_hashes_are_sha256_of_every_file_but_the_manifest(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "weights.bin").write_bytes(b"abc")
    assert hash_files(folder) == {"model.onnx": ABC_SHA256, "more/weights.bin": ABC_SHA256}


def test_hashes_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(manifest.CHUNK_BYTES + 1))
    (tmp_path / "fewer").write_bytes(bytes(manifest.CHUNK_BYTES))
    assert len(set(hash_files(tmp_path).values())) == 2


def test_a_sound_folder_verifies(folder: Path) -> None:
    assert verify(folder) == full()


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"abd")
    with pytest.raises(RepositoryError, match=rf"model\.onnx was changed .* expected {ABC_SHA256}"):
        verify(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(RepositoryError, match=r"model\.onnx is missing"):
        verify(folder)


def test_an_unknown_file_is_named(folder: Path) -> None:
    (folder / "notes.txt").write_text("")
    with pytest.raises(RepositoryError, match=r"notes\.txt is not in the manifest"):
        verify(folder)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"manifest\.json cannot be read"):
        verify(tmp_path)


def test_tool_versions_are_those_installed() -> None:
    versions = manifest.tool_versions(["numpy", "no-such-package-at-all"])
    assert versions == {"numpy": numpy.__version__}


def test_labels_are_read(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["a", "b"]')
    assert read_labels(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("text", [None, "", '{"0": "a"}', "[1, 2]"])
def test_unreadable_labels_are_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "labels.json").write_text(text)
    with pytest.raises(RepositoryError, match=r"labels\.json"):
        read_labels(tmp_path)
