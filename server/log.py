"""Carries Triton's log to its sink as it is, keeps the end of it, and reads from it why a start failed."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, BinaryIO

from server.endpoints import Endpoints
from server.errors import ModelError, OptionError, PortError, ServerError, StartError

KEPT_LINES = 2000
TAIL_LINES = 20
POLL_S = 0.05
REFUSAL_TIMEOUT_S = 2.0  # until what Triton said has come through the pipe

# As Triton 2.51 writes them; line breaks inside a message are the two characters \n:
# E1122 00:02:56.286311 6549 model_lifecycle.cc:642] "failed to load 'echo' version 1: Internal: NameError...\n\nAt:..."
_VERSION_FAILED = re.compile(r"\"failed to load '(?P<model>[^']+)' version (?P<version>-?\d+): (?P<reason>.+)\"$")
# E1122 00:13:11.330491 11867 model_repository_manager.cc:724] "failed to load model 'echo': at least one version ..."
_MODEL_FAILED = re.compile(r"\"failed to load model '(?P<model>[^']+)': (?P<reason>.+)\"$")
# E1122 00:13:14.778208 12170 model_repository_manager.cc:1460] "Poll failed for model directory 'echo': failed to ..."
_POLL_FAILED = re.compile(r"\"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.+)\"$")
# [libprotobuf ERROR /tmp/...] Error parsing text-format inference.ModelConfig: 1:15: Unexpected end of string.
_BAD_PBTXT = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<reason>.+)$")
# E1122 00:13:19.487344 12427 main.cc:293] "failed to start Metrics service: Unavailable - Socket ... already in use "
_SERVICE_FAILED = re.compile(r"\"failed to start (?P<service>\w+) service: (?P<reason>.+?)\s*\"$")
# What bert_text says when Triton has given up on a process of its tensor model, dead or not; Triton logs nothing then.
_UNHEALTHY = re.compile(rb"^E\d{4} .*Stub process '(?P<process>[^']+)' is not healthy")
# .../bin/tritonserver: unrecognized option '--no-such-flag=1'
# Bad option: "--http-restricted-api".
_BAD_FLAG = re.compile(r"(?:bin/tritonserver: |^Bad option: )(?P<reason>.+?)\.?$")
# What Triton logs, in either --log-format, begins so; what it prints while it reads its flags does not.
_LOGGED = re.compile(r"[IWE]\d{4} \d\d:|\d{4}-\d\d-\d\dT\d\d:")
_CREATING = re.compile(r"error: creating server: (?P<reason>.+)$")


class Log:
    """Pumps the output of a process into a sink, in a thread of its own.

    A pipe, rather than the sink itself as the process's stderr: the reason of a failed start is read from it
    wherever it goes.

    Attributes:
        unhealthy: the backend process that Triton gave up on last; empty if there was none.
    """

    def __init__(self, stream: IO[bytes], sink: BinaryIO) -> None:
        self.unhealthy = ""
        self._stream = stream
        self._sink = sink
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._count = 0
        self._thread = threading.Thread(target=self._pump, name="triton-log", daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        with self._stream:
            for line in self._stream:
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._count += 1
                if found := _UNHEALTHY.match(line):
                    self.unhealthy = found["process"].decode("utf-8", "replace")
                try:
                    self._sink.write(line)
                    self._sink.flush()
                except (OSError, ValueError):
                    continue  # nobody reads our stderr any more; Triton must not block on that

    def join(self, timeout_s: float = 5.0) -> None:
        """Waits until everything a dead process wrote has been carried over."""
        self._thread.join(timeout_s)

    def lines(self) -> list[str]:
        """The last lines, oldest first."""
        return list(self._lines.copy())

    @property
    def count(self) -> int:
        """How many lines there were so far."""
        return self._count

    def since(self, count: int) -> list[str]:
        """What came after the first ``count`` lines, as far as it is kept."""
        new = self._count - count
        return self.lines()[-new:] if new > 0 else []

    def tail(self, count: int = TAIL_LINES) -> str:
        """The last ``count`` lines as one text."""
        return "\n".join(self.lines()[-count:])


def failure(lines: Sequence[str], returncode: int, endpoints: Endpoints) -> ServerError:
    """The error that says in one line why a Triton with this log ended while it was starting."""
    tail = "\n".join(lines[-TAIL_LINES:])
    if failed := failed_models(lines):
        return ModelError(_models_message(failed), tail)
    for line in lines:
        if match := _SERVICE_FAILED.search(line):
            service = match["service"].lower()
            port = endpoints.ports().get(service, 0)
            return PortError(
                f"Triton cannot listen on {endpoints.host} port {port} for {service}: {match['reason']}; "
                f"stop what uses it, or choose another with --{service}-port (0 = a free one)"
            )
        if match := _BAD_FLAG.search(line):
            return OptionError(f"tritonserver does not take what was passed to it: {match['reason']}")
    for line in reversed(lines):
        if match := _CREATING.search(line):
            return StartError(f"Triton could not start: {match['reason']}", tail)
    return StartError(f"Triton ended while starting ({describe_exit(returncode)}); the reason is in its log", tail)


def failed_models(lines: Sequence[str]) -> dict[str, str]:
    """Model -> Triton's reason, for every model that the log says could not be loaded."""
    failed: dict[str, str] = {}
    pbtxt = ""
    for line in lines:
        if match := _BAD_PBTXT.search(line):
            pbtxt = match["reason"]
        elif match := _VERSION_FAILED.search(line):
            failed.setdefault(match["model"], f"version {match['version']}: {_first_line(match['reason'])}")
        elif match := _MODEL_FAILED.search(line):
            failed.setdefault(match["model"], _first_line(match["reason"]))
        elif match := _POLL_FAILED.search(line):
            reason = _first_line(match["reason"])
            failed.setdefault(match["model"], f"{reason} ({pbtxt})" if pbtxt else reason)
            pbtxt = ""
    return failed


def is_tritons(line: str) -> bool:
    """Whether Triton logged this line, rather than printed it before it had a log."""
    return _LOGGED.match(line) is not None


def refusal(log: Log, known: int, model: str) -> str:
    """Why Triton has just refused ``model``: its reason after the first ``known`` lines."""
    deadline = time.monotonic() + REFUSAL_TIMEOUT_S
    while model not in (refused := failed_models(log.since(known))) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return refused.get(model, "its log says why")


def describe_exit(returncode: int | None) -> str:
    """For example "exit code 1" or "killed by SIGSEGV"."""
    if returncode is not None and returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"


def _models_message(failed: dict[str, str]) -> str:
    reasons = "; ".join(
        f"{model} {reason}" if reason.startswith("version") else f"{model}: {reason}"
        for model, reason in failed.items()
    )
    return f"Triton refused {'a model' if len(failed) == 1 else f'{len(failed)} models'}: {reasons}"


def _first_line(reason: str) -> str:
    return reason.split("\\n", maxsplit=1)[0].strip()
