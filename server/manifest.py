"""Holds the version folders of a model repository to their ``manifest.json``, before they are served.

``python -m export`` writes a manifest into every version folder (its format is described in ``export/manifest.py``).
Read here: ``format``, ``model``, ``version``, and ``files``, the SHA-256 of every other file. What this finds is a file
that was damaged, swapped or added since the export; whoever can write the repository can write a manifest too, so
against them only the permissions of the folder help (docs/threat-model.md).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import MANIFEST_FILE
from server.errors import IntegrityError

FORMAT = 1
THREADS = 2  # hashing does not hold Python's lock; more than the disk and two cores give is not needed
UNVERIFIED = "or serve it unverified with --no-verify"


@dataclass(frozen=True)
class Verified:
    """What was found to be as it was exported."""

    folders: int
    size_bytes: int
    seconds: float

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:.1f} MB"
        return f"{self.folders} versions ({size}) hold what their manifests say; checked in {self.seconds:.2f} s"


def verify(folders: Sequence[Path]) -> Verified:
    """Holds version folders, ``<repository>/<model>/<version>``, to their manifests.

    Raises:
        IntegrityError: a file is changed, missing or additional, or there is no manifest of this model and version.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(_verify, folders))
    return Verified(len(sizes), sum(sizes), time.monotonic() - started)


def _verify(folder: Path) -> int:
    """Holds one folder to its manifest; returns the bytes read."""
    expected = _files(folder)
    try:
        # A link to a folder counts as a file that no manifest lists: what lies behind it could not be verified.
        paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        found = {path.relative_to(folder).as_posix() for path in paths}
        files = {name for name in expected if (folder / name).is_file()}
    except OSError as exc:
        raise IntegrityError(f"{folder} cannot be read: {exc}; fix its permissions") from exc
    size = 0
    for name in sorted({*found, *expected} - {MANIFEST_FILE}):
        path = folder / name
        if name not in expected:
            raise IntegrityError(
                f"{path} is not in the manifest of this version; remove it, export the model again, {UNVERIFIED}"
            )
        if name not in files:
            raise IntegrityError(
                f"{path} is missing or no file, expected one with SHA-256 {expected[name]}; export the model again, "
                f"or restore the file"
            )
        size += _check(path, expected[name])
    return size


def _check(path: Path, expected: str) -> int:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as exc:
        raise IntegrityError(f"{path} cannot be read: {exc}; fix its permissions, or export the model again") from exc
    if digest != expected:
        raise IntegrityError(
            f"{path} was changed since it was exported: its SHA-256 is {digest}, expected {expected}; "
            f"restore the file, export the model again, {UNVERIFIED}"
        )
    return size


def _files(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file that the manifest of a version folder lists."""
    path = folder / MANIFEST_FILE
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(
            f"{path} is missing, so nothing says what {folder} should hold; "
            f"export the model with `python -m export`, {UNVERIFIED}"
        ) from None
    except (OSError, ValueError) as exc:
        raise IntegrityError(f"{path} cannot be read: {exc}; export the model again, {UNVERIFIED}") from exc
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise IntegrityError(
            f"{path} has manifest format {found!r}, expected {FORMAT}; export the model again, {UNVERIFIED}"
        )
    if (manifest.get("model"), manifest.get("version")) != (folder.parent.name, int(folder.name)):
        raise IntegrityError(
            f"{path} is of version {manifest.get('version')} of {manifest.get('model')}, expected version "
            f"{folder.name} of {folder.parent.name}: the folder was moved or copied; export the model again, "
            f"{UNVERIFIED}"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise IntegrityError(f"{path} lists no files; export the model again, {UNVERIFIED}")
    return files
