"""Version folders held to their manifests: what is refused, and in which words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server import manifest
from server.errors import IntegrityError
from tests.tiny_repository import write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Version 3 of a model, as export writes it."""
    folder = tmp_path / "sentiment_int8" / "3"
    (folder / "assets").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights" * 1000)
    (folder / "assets" / "notes.txt").write_text("notes")
    write_manifest(folder, "sentiment_int8", 3, "int8")
    return folder


def test_what_export_writes_is_taken(folder: Path) -> None:
    verified = manifest.verify([folder])
    assert (verified.folders, verified.size_bytes) == (1, 7005)
    assert "1 versions (0.0 MB) hold what their manifests say" in str(verified)


def change(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"weightS" * 1000)


def lose(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def add(folder: Path) -> None:
    (folder / "model.py").write_text("print('hello')")


def add_a_link(folder: Path) -> None:
    (folder / "tokenizer.json").symlink_to("/no/such/file")


def add_a_linked_folder(folder: Path) -> None:
    """Whose files are listed nowhere."""
    (folder / "more").symlink_to(folder.parent, target_is_directory=True)


def make_a_pipe(folder: Path) -> None:
    """Which would be read for ever."""
    lose(folder)
    os.mkfifo(folder / "model.onnx")


def other_model(folder: Path) -> None:
    text = (folder / "manifest.json").read_text().replace('"sentiment_int8"', '"topic_int8"')
    (folder / "manifest.json").write_text(text)


def other_format(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format": 2}))


def no_files(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "model": "sentiment_int8", "version": 3}))


def not_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lose, r"3/model\.onnx is missing or no file, expected one with SHA-256 [0-9a-f]{64}; export the model again"),
        (make_a_pipe, r"3/model\.onnx is missing or no file"),
        (add_a_linked_folder, r"3/more is not in the manifest"),
        (add, r"3/model\.py is not in the manifest of this version; remove it"),
        (add_a_link, r"3/tokenizer\.json is not in the manifest"),
        (other_model, r"is of version 3 of topic_int8, expected version 3 of sentiment_int8: the folder was moved"),
        (other_format, r"has manifest format 2, expected 1"),
        (no_files, r"lists no files"),
        (not_json, r"manifest\.json cannot be read"),
        (no_manifest, r"manifest\.json is missing, so nothing says what .*3 should hold.*--no-verify"),
    ],
)
def test_what_is_not_as_it_was_exported_is_named(folder: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(folder)
    with pytest.raises(IntegrityError, match=message):
        manifest.verify([folder])


def test_a_changed_file_is_named_with_both_hashes(folder: Path) -> None:
    expected = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    change(folder)
    found = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with pytest.raises(IntegrityError) as caught:
        manifest.verify([folder])
    assert caught.value.message == (
        f"{folder / 'model.onnx'} was changed since it was exported: its SHA-256 is {found}, expected {expected}; "
        "restore the file, export the model again, or serve it unverified with --no-verify"
    )


def test_a_version_cannot_stand_in_for_another(folder: Path) -> None:
    copied = folder.with_name("4")
    shutil.copytree(folder, copied)
    with pytest.raises(IntegrityError, match="is of version 3 of sentiment_int8, expected version 4"):
        manifest.verify([folder, copied])
