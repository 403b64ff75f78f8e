"""Files in /dev/shm: a live server's are never touched, a dead one's are removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import shared_memory
from server.errors import ResourceError
from server.shared_memory import SharedMemory, remove_leftovers


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SharedMemory]:
    claimed = SharedMemory.claim(tmp_path)
    yield claimed
    claimed.release()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prefixes_are_unique_and_leave_nothing(tmp_path: Path) -> None:
    first, second = SharedMemory.claim(tmp_path), SharedMemory.claim(tmp_path)
    (tmp_path / f"{first.prefix}region").touch()
    (tmp_path / f"{second.prefix}region").touch()
    first.release()
    assert names(tmp_path) == sorted([f"{second.prefix}.lock", f"{second.prefix}region"])
    second.release()
    assert names(tmp_path) == []


def test_a_live_server_is_never_touched(memory: SharedMemory, tmp_path: Path) -> None:
    (tmp_path / f"{memory.prefix}region").touch()
    assert remove_leftovers(tmp_path) == []
    assert len(names(tmp_path)) == 2


def test_a_server_lives_as_long_as_any_process_holds_its_lock(tmp_path: Path) -> None:
    memory = SharedMemory.claim(tmp_path)
    (tmp_path / f"{memory.prefix}region").touch()
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(memory.lock_fd,)
    ) as backend:
        os.close(memory.lock_fd)  # as when the launcher is killed
        assert remove_leftovers(tmp_path) == []
        backend.communicate(b"\n")
    assert len(remove_leftovers(tmp_path)) == 2
    assert names(tmp_path) == []


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    kept = ["bert_triton_notes.txt", "triton_python_backend_shm_region_1", "psm_1"]
    for name in kept:
        (tmp_path / name).touch()
    SharedMemory.claim(tmp_path).release()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    folder = tmp_path / "shm"
    folder.mkdir()
    (folder / "bert_triton_1_x_.lock").symlink_to(outside)
    assert remove_leftovers(folder) == []
    assert outside.exists()


def test_clear_keeps_the_prefix_taken(memory: SharedMemory, tmp_path: Path) -> None:
    (tmp_path / f"{memory.prefix}region").touch()
    memory.clear()
    assert names(tmp_path) == [f"{memory.prefix}.lock"]


def test_missing_folder_and_lack_of_room_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="absent does not exist"):
        SharedMemory.claim(tmp_path / "absent")
    with pytest.raises(ResourceError, match=r"MB free, .* needs at least 1152921504606846976 MB.*--shm-size"):
        shared_memory.check_room(tmp_path, needed_bytes=1 << 80)


def test_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ResourceError, match="not writable"):
        SharedMemory.claim(tmp_path)
