"""A child process: started so that it ends with this one, read line by line, ended with all that it started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

PIPE_BYTES = 2**20  # what waits for us to read it; an unprivileged process may have this much
Lines = Callable[[bytes], None]  # takes whole lines


class Child:
    """A process in a group of its own.

    Args:
        command: program and arguments.
        stdout: takes what it writes; None: nobody does.
        stderr: as ``stdout``.
    """

    def __init__(self, command: Sequence[str], *, stdout: Lines | None = None, stderr: Lines | None = None) -> None:
        # The system ends it when we are killed, where it can arrange that.
        setpriv = shutil.which("setpriv")
        self._process = subprocess.Popen(
            [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE if stderr else subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pumps = [
            threading.Thread(target=_pump, args=(stream, take), name="pump", daemon=True)
            for stream, take in ((self._process.stdout, stdout), (self._process.stderr, stderr))
            if stream is not None
        ]
        for pump in self._pumps:
            pump.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it lives."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Sends a signal, to it alone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def end(self, number: int, timeout_s: float) -> bool:
        """Ends it by a signal, by force if it lives on; False if that was needed."""
        self.send(number)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """Kills it and what is left of its group: children outlive a parent that was killed. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pump in self._pumps:
            pump.join()

    def children(self) -> dict[int, str]:
        """Process id and title of each of its children; what is gone in the meantime is left out."""
        found = {}
        for pid in _children(self.pid):
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
                found[pid] = title.replace(b"\0", b" ").decode("utf-8", "replace")
        return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):  # a kernel may be built without it
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The program's name comes first, in brackets, and may hold anything.
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


def _pump(stream: IO[bytes], take: Lines) -> None:
    """Hands on whole lines until the last writer is gone."""
    with stream:
        descriptor = stream.fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        rest = b""
        while chunk := os.read(descriptor, PIPE_BYTES):
            lines, feed, rest = (rest + chunk).rpartition(b"\n")
            if feed:
                take(lines + feed)
        if rest:
            take(rest + b"\n")
