"""The disk: making what was written last, and its refusals in words that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from export.errors import RepositoryError

FULL = (errno.ENOSPC, errno.EDQUOT)
# Refusals to grow, which writing reports without naming a file; and those that opening and renaming report with a name.
NO_ROOM = (*FULL, errno.EFBIG)
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
NEARLY_FULL_BYTES = 1 << 20


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises RepositoryError for every OSError; ``path`` is what was to be written, where the error names nothing."""
    try:
        yield
    except OSError as exc:
        raise RepositoryError(explain(exc, path)) from exc


def explain(error: OSError, path: Path) -> str:
    """What ``error`` means, where, and what to do about it."""
    named = error.filename2 or error.filename  # of a rename, where it was to go
    at = Path(named) if isinstance(named, str) and Path(named).is_absolute() else path
    if error.errno in FULL:
        free = f"{free_bytes(path) / 1e6:.1f} MB free"
        return f"the disk that holds {path} is full ({free}): make room there, or export to another disk with --output"
    if error.errno == errno.EFBIG:
        return f"{at} grew over the size that files may have here: raise the limit (ulimit -f)"
    if error.errno == errno.EROFS:
        return f"{at} is on a read-only file system: mount it writable, or export to another folder with --output"
    if error.errno in (errno.EACCES, errno.EPERM):
        user = f"user {os.geteuid()}"
        return f"{at} may not be written by {user}: change its owner or mode, or export to another folder with --output"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{at} is in the way: expected a folder that can be created or written; move it, or use another --output"
    return f"{at} cannot be written: {error}"


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds ``path``, or what exists of it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def is_full(path: Path) -> bool:
    """Whether the disk that holds ``path`` has next to nothing left: libraries report that in many ways."""
    try:
        return free_bytes(path) < NEARLY_FULL_BYTES
    except OSError:
        return False


def sync(path: Path) -> None:
    """Has the disk write down a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """`sync` for a file, or for a folder and everything in it, contents before names."""
    if path.is_file():
        sync(path)
    for parent, _, files in os.walk(path, topdown=False):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))
