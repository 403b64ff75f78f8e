"""Owns this server's files in /dev/shm: a unique prefix, and their removal.

Triton's Python backend keeps one region per model instance there and leaves them behind when a process
dies. Each server gets a prefix and a lock file ``<prefix>.lock``; the lock is inherited by tritonserver
and its backend processes, so it is free exactly when none of them lives. Whoever then gets the lock may
delete every file of that prefix: a live server can never be touched, whatever its process id.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from server.errors import ResourceError

DEV_SHM = Path("/dev/shm")  # noqa: S108 -- not a temporary file: Triton's Python backend uses shm_open
NAME = "bert_triton_"
LOCK_SUFFIX = ".lock"
REGION_BYTES = 1 << 20  # what one model instance takes at start (shm-default-byte-size)


@dataclass
class SharedMemory:
    """The prefix of one server and the lock that says the server lives."""

    prefix: str
    lock_fd: int
    folder: Path = DEV_SHM

    @classmethod
    def claim(cls, folder: Path = DEV_SHM) -> SharedMemory:
        """Takes a new prefix.

        Raises:
            ResourceError: ``folder`` is missing, cannot be written, or has no room.
        """
        check_room(folder)
        while True:
            # The pid is for people who read `ls /dev/shm`; the random part makes the prefix unique.
            prefix = f"{NAME}{os.getpid()}_{secrets.token_hex(4)}_"
            path = folder / (prefix + LOCK_SUFFIX)
            try:
                lock_fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except OSError as exc:
                raise ResourceError(
                    f"cannot write to {folder} ({exc.strerror}), where Triton's Python backend keeps its memory"
                ) from exc
            # Between open and flock another start may have taken this for a leftover and deleted it: look again.
            if _try_lock(lock_fd) and _same_file(lock_fd, path):
                return cls(prefix, lock_fd, folder)
            os.close(lock_fd)

    def clear(self) -> None:
        """Deletes what dead processes of this server left; the prefix stays taken."""
        for path in self.folder.glob(self.prefix + "*"):
            if not path.name.endswith(LOCK_SUFFIX):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Deletes everything under the prefix and the lock. Only when no process of the server lives."""
        remove(self.prefix, self.folder)
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def check_room(folder: Path = DEV_SHM, needed_bytes: int = 8 * REGION_BYTES) -> None:
    """Raises ResourceError where Triton's Python backend could not keep its regions."""
    if not folder.is_dir():
        raise ResourceError(
            f"{folder} does not exist, where Triton's Python backend keeps its memory; mount a tmpfs there"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(
            f"{folder} is not writable, where Triton's Python backend keeps its memory; mount it writable (mode 1777)"
        )
    statistics = os.statvfs(folder)
    free_bytes = statistics.f_bavail * statistics.f_frsize
    if free_bytes < needed_bytes:
        raise ResourceError(
            f"{folder} has {free_bytes >> 20} MB free, Triton's Python backend needs at least {needed_bytes >> 20} MB "
            "(1 MB per model instance and more for large batches); in a container: --shm-size=256m"
        )


def remove(prefix: str, folder: Path = DEV_SHM) -> list[str]:
    """Deletes the files of ``prefix``, the lock last; returns their names."""
    names = sorted(path.name for path in folder.glob(prefix + "*"))
    names.sort(key=lambda name: name.endswith(LOCK_SUFFIX))
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return names


def remove_leftovers(folder: Path = DEV_SHM) -> list[str]:
    """Deletes what dead servers left; returns the names. Other users' files and live servers' are left alone."""
    removed: list[str] = []
    for path in folder.glob(NAME + "*" + LOCK_SUFFIX):
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # gone meanwhile, or another user's
        try:
            if stat.S_ISREG(os.fstat(lock_fd).st_mode) and _try_lock(lock_fd) and _same_file(lock_fd, path):
                removed += remove(path.name.removesuffix(LOCK_SUFFIX), folder)
        finally:
            os.close(lock_fd)
    return removed


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
