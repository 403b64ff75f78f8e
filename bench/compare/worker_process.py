"""Starts `bench.compare.worker` and asks it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

from bench.compare.contestant import Unavailable

ANSWER_TIMEOUT_S = 300.0
_LAST_LINES = 3


class WorkerError(RuntimeError):
    """The worker ended instead of answering; the message ends with its last lines."""


class Worker:
    """A worker that is up; takes whole lists. From one thread.

    Attributes:
        detail: what was decided at its start.
    """

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.detail = ""
        self._process = process
        self._log = log

    def classify(self, text: str) -> str:
        """One text."""
        return self.classify_all([text])[0]

    def classify_all(self, texts: Sequence[str]) -> list[str]:
        """All texts to their labels.

        Raises:
            WorkerError: it ended, or took longer than `ANSWER_TIMEOUT_S` and was ended.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps(list(texts)), file=self._process.stdin, flush=True)
        except OSError:
            raise WorkerError(self._last_words()) from None
        answer: list[str] = self.read()
        return answer

    def read(self) -> Any:
        """The next line it writes."""
        assert self._process.stdout is not None
        timer = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return f"ended with {self._process.returncode}: " + " / ".join(lines[-_LAST_LINES:])


@contextlib.contextmanager
def working(**specification: Any) -> Iterator[Worker]:
    """A worker while it is up.

    Args:
        specification: ``kind``, a key of `bench.compare.worker.KINDS`, and its arguments.

    Raises:
        Unavailable: it ended before it was ready.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.compare.worker", json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            worker = Worker(process, log)
            try:
                worker.detail = worker.read()
            except WorkerError as exc:
                raise Unavailable(str(exc)) from exc
            yield worker
        finally:
            process.kill()
            process.communicate()
