"""Several renames as one step: all of them or none, whatever ends the process.

The journal is a file in staging that lists every rename; once it is on the disk, the step counts as done. A
rename is known to have happened by its source being gone. So `commit` undoes what it did when a rename fails, and
`finish` completes what a killed process left, as often as it takes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from export import disk
from export.errors import RepositoryError

JOURNAL_FILE = "commit.json"
BEFORE = ".before"  # in staging: what renames of files will replace


@dataclass(frozen=True)
class Rename:
    """One file or folder on its way from staging to the repository, both paths relative to those."""

    source: str
    target: str


def is_pending(staging: Path) -> bool:
    """Whether ``staging`` holds a step that has begun and not ended."""
    return (staging / JOURNAL_FILE).exists()


def commit(staging: Path, repository: Path, renames: Sequence[Rename]) -> None:
    """Carries out ``renames`` in their order, or leaves everything as it was.

    Raises:
        OSError: a rename failed; those before it are undone.
    """
    for rename in renames:
        if (repository / rename.target).is_file():
            before = staging / BEFORE / rename.target
            before.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / rename.target, before)
            disk.sync(before)
    for rename in renames:
        disk.sync_tree(staging / rename.source)
    _write(staging, renames)
    try:
        for rename in renames:
            _apply(staging, repository, rename)
    except BaseException:
        for rename in reversed(renames):
            _undo(staging, repository, rename)
        (staging / JOURNAL_FILE).unlink()
        raise
    (staging / JOURNAL_FILE).unlink()
    disk.sync(staging)


def finish(staging: Path, repository: Path) -> list[str]:
    """Completes a step that was interrupted; returns the targets of its renames, in their order.

    Raises:
        RepositoryError: the journal is not one.
        OSError: a rename failed; the journal stays.
    """
    renames = _read(staging)
    for rename in renames:
        _apply(staging, repository, rename)
    (staging / JOURNAL_FILE).unlink()
    return [rename.target for rename in renames]


def _write(staging: Path, renames: Sequence[Rename]) -> None:
    draft = staging / f"{JOURNAL_FILE}.draft"
    draft.write_text(json.dumps([asdict(rename) for rename in renames]), encoding="utf-8")
    disk.sync(draft)
    draft.replace(staging / JOURNAL_FILE)
    disk.sync(staging)


def _read(staging: Path) -> list[Rename]:
    path = staging / JOURNAL_FILE
    try:
        renames = [Rename(**rename) for rename in json.loads(path.read_text(encoding="utf-8"))]
        paths = [Path(name) for rename in renames for name in (rename.source, rename.target)]
    except (ValueError, TypeError) as exc:
        raise RepositoryError(f"{path} is not what an export wrote ({exc}); look into {staging} and remove it") from exc
    if any(name.is_absolute() or ".." in name.parts for name in paths):
        raise RepositoryError(f"{path} leads out of the model repository; look into {staging} and remove it")
    return renames


def _apply(staging: Path, repository: Path, rename: Rename) -> None:
    source, target = staging / rename.source, repository / rename.target
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    disk.sync(target.parent)


def _undo(staging: Path, repository: Path, rename: Rename) -> None:
    source, target, before = (
        staging / rename.source,
        repository / rename.target,
        staging / BEFORE / rename.target,
    )
    if source.exists():
        return
    if not before.exists():
        target.replace(source)
        return
    # The new file goes back to staging first, so that the journal stays true if this is killed too.
    try:
        os.link(target, source)
    except OSError:  # a file system without hard links
        shutil.copy2(target, source)
    before.replace(target)
