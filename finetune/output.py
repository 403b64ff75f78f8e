"""A folder that appears whole or not at all.

Everything is written to a hidden sibling first, and renamed when it is complete.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from finetune.errors import OutputError


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder that becomes ``path`` when the block ends without an exception.

    Args:
        path: the folder to make.
        overwrite: replace a folder that is there already (it stays until the new one is complete).

    Raises:
        OutputError: ``path`` exists and ``overwrite`` is False, or it cannot be written. Told at the start, before
            the work is done, as far as it can be known then.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow a link that is to be replaced
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: choose another folder, or pass --overwrite")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file, expected a folder (or nothing)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}.partial-"
        _remove_abandoned(path.parent, prefix)
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror}: {exc.filename}") from exc
    try:
        with _held(partial):
            yield partial
            _make_readable(partial)
            _replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _held(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Locks ``folder`` for as long as this process works in it, or lives; BlockingIOError if it may not wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes what runs that were killed have left: folders that nobody holds."""
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(BlockingIOError, FileNotFoundError), _held(folder, wait=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Tells what stops a checkpoint from being saved (a full disk, most of all) as an `OutputError` about ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as exc:
        raise OutputError(f"cannot write {path}: {exc}") from exc


def _make_readable(folder: Path) -> None:
    """Gives files and folders the usual modes: mkdtemp and safetensors make theirs for their owner alone."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _replace(partial: Path, path: Path) -> None:
    old = partial.with_name(f"{partial.name}.old")
    try:
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except OSError as exc:
        if old.exists() and not path.exists():
            old.rename(path)
        raise OutputError(f"cannot write {path}: {exc.strerror}") from exc
    shutil.rmtree(old, ignore_errors=True)
