"""``python -m server`` as a child process: started, waited for, and ended, with Triton's log in a file.

Owns its life and reading its ready line. What is asked of it is the commands' (`demo.serve`, `demo.measure`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError

LOG_FILE = Path("build/server.log")
STOP_TIMEOUT_S = 60.0


class NotServingError(DemoError):
    """The server ended before it was ready; the message is its own last word.

    Attributes:
        exit_code: what it ended with, never 0.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)
        self.message = message
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class ServerProcess:
    """A server that is ready.

    Attributes:
        process: ``python -m server``, which has Triton as a child.
        ready: what it said when it was.
        started_s: seconds that took.
    """

    process: subprocess.Popen[str]
    ready: str
    started_s: float

    def url(self, service: str) -> str:
        """Where it listens: of ``http``, ``grpc`` or ``metrics``."""
        found = _url(self.ready, service)
        if found is None:
            raise DemoError(f"the server does not say where {service} is: {self.ready}")
        return found


@contextmanager
def serving(
    flags: Sequence[str], log: Path, *, own_group: bool = False, wrapper: Sequence[str] = ()
) -> Iterator[ServerProcess]:
    """Starts ``python -m server`` with ``flags`` and ends it afterwards, whatever happens.

    Args:
        flags: of the server.
        log: where Triton's log goes.
        own_group: a Ctrl-C in the terminal does not reach the server, only this process.
        wrapper: a command that becomes the one behind it, such as ``nice``.

    Raises:
        NotServingError: it ended before it was ready.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [*wrapper, sys.executable, "-m", "server", *flags]
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=sink, text=True, process_group=0 if own_group else None
        ) as process,
    ):
        try:
            ready = process.stdout.readline().strip() if process.stdout else ""
            if _url(ready, "grpc") is None:
                raise NotServingError(_reason(log), process.wait() or 1)
            yield ServerProcess(process, ready, time.monotonic() - began)
        finally:
            _stop(process)


def _url(ready: str, service: str) -> str | None:
    """The URL of a service in the line ``ready: http http://…, grpc grpc://…, metrics http://…; models …``."""
    found = re.search(rf"\b{service} (\w+://[^\s,;]+)", ready)
    return found.group(1) if found else None


def _stop(server: subprocess.Popen[str]) -> None:
    """Ends the server, which drains; kills it if it does not end."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _reason(log: Path) -> str:
    """The server's own last word in its log, or the end of it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line for line in lines if line.startswith("server: ")]
    return own[-1] if own else "\n".join(lines[-10:])
