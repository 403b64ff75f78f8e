"""``python -m server`` as a child of a test, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from server.guard import processes
from tests.e2e import triton

READY_TIMEOUT_S = 120.0
# A death is noticed after 1 to 1.5 s, and a trivial model answers 2 to 3 s later on an idle machine.
RECOVERY_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


class Command:
    """A running ``python -m server``, its output in two files."""

    def __init__(self, folder: Path, *arguments: str | Path, **environment: str) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server", *map(str, arguments)],
                cwd=triton.REPOSITORY_ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def ready_lines(self) -> list[str]:
        return self._stdout.read_text().splitlines()

    def ours(self) -> list[str]:
        """What the launcher itself said among Triton's log."""
        return [line for line in self._stderr.read_text(errors="replace").splitlines() if line.startswith("server: ")]

    def log(self) -> str:
        """All that it and Triton wrote to stderr."""
        return self._stderr.read_text(errors="replace")

    def wait_until_ready(self, times: int = 1) -> str:
        """Waits for the ready line, or the second one; returns the HTTP URL."""
        triton.eventually(
            lambda: len(self.ready_lines()) >= times or self.process.poll() is not None, READY_TIMEOUT_S, "the start"
        )
        assert self.process.poll() is None, self._stderr.read_text()[-3000:]
        found = re.search(r"http (http://127\.0\.0\.1:\d+)", self.ready_lines()[times - 1])
        assert found
        return found[1]

    def triton_pid(self) -> int:
        """The tritonserver that runs at this moment."""
        children = psutil.Process(self.process.pid).children()
        return next(child.pid for child in children if child.name() == "tritonserver")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_TIMEOUT_S)

    def leftovers(self) -> list[object]:
        """Processes and files in /dev/shm that outlived the launcher."""
        prefix = f"bert_triton_{self.process.pid}_"
        return [*processes(prefix), *triton.shared_memory(self.process.pid)]
