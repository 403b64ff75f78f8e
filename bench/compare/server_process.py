"""A server of somebody else's: started on a free port, waited for until it answers, ended with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from bench.compare.contestant import Unavailable

START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.2
_LAST_LINES = 3


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    answers: Callable[[], object],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[int]:
    """The server while it is up; yields its process id.

    Args:
        command: how it is started.
        answers: asks it something; an exception means not yet.
        environment: variables beside this process's.
        folder: its working directory.
        timeout_s: until it has to answer.

    Raises:
        Unavailable: it ended, or does not answer in time; the message ends with its last lines.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children can be ended with it
        )
        try:
            _wait(process, answers, timeout_s, log)
            yield process.pid
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], object], timeout_s: float, log: IO[str]) -> None:
    deadline = time.monotonic() + timeout_s
    while (failure := _failure(answers)) is not None:
        if process.poll() is not None:
            raise Unavailable(f"ended with exit status {process.returncode}: {_tail(log)}") from failure
        if time.monotonic() > deadline:
            raise Unavailable(f"no answer within {timeout_s:g} s ({failure}): {_tail(log)}") from failure
        time.sleep(_POLL_S)


def _failure(answers: Callable[[], object]) -> Exception | None:
    try:
        answers()
    except Exception as exc:  # noqa: BLE001 -- whatever its client raises: it is not up yet
        return exc
    return None


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    return " / ".join(lines[-_LAST_LINES:]) or "nothing in its log"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks, then kills; its session goes with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
