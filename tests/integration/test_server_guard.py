"""The process that cleans up after a killed launcher."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import guard
from server.shared_memory import DEV_SHM

DEADLINE_S = 60.0


@pytest.fixture
def prefix() -> str:
    return f"bert_triton_test_{secrets.token_hex(4)}_"


@pytest.fixture
def backend(prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a backend process of that prefix."""
    looks = ["triton_python_backend_stub", "-c", "import time; time.sleep(300)", f"{prefix}region"]
    with subprocess.Popen(looks, executable=sys.executable) as process:
        deadline = time.monotonic() + DEADLINE_S
        while process.pid not in guard.processes(prefix):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        process.kill()


@pytest.fixture
def watching(prefix: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "server").mkdir()
    command = [sys.executable, "-I", guard.__file__, prefix, str(tmp_path / "server")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_everything_ends_when_the_launcher_is_gone(
    prefix: str, backend: subprocess.Popen[bytes], watching: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (DEV_SHM / f"{prefix}region").touch()
    with pytest.raises(subprocess.TimeoutExpired):  # nothing happens while the launcher lives
        watching.wait(0.5)
    assert backend.poll() is None
    assert watching.stdin is not None
    watching.stdin.close()
    assert watching.wait(DEADLINE_S) == 0
    assert backend.wait(DEADLINE_S) == -9
    assert list(DEV_SHM.glob(prefix + "*")) == []
    assert not (tmp_path / "server").exists()


def test_processes_of_other_servers_and_other_programs_are_not_found(
    prefix: str, backend: subprocess.Popen[bytes]
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", prefix]) as innocent:
        try:
            assert guard.processes(prefix) == [backend.pid]
            assert guard.processes(prefix + "other") == []
        finally:
            innocent.kill()


def test_only_an_empty_environment_folder_is_removed(tmp_path: Path) -> None:
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    for name in ("empty", "full"):
        (tmp_path / guard.ENVIRONMENT_LINK).symlink_to(tmp_path / name)
        guard.remove_environment_folder(tmp_path)
    guard.remove_environment_folder(tmp_path)  # without a link
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
