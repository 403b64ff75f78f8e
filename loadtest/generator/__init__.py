"""Makes the load of one cell in a process of its own and brings back what was measured.

`run` is all that other parts of loadtest call. The process (``python -m loadtest.generator``) is Locust's: users are
greenlets, and gevent replaces the standard library's sockets there, which must not happen here.

    run ─ job folder, events ─ __main__ ─ clock ─┬─ local ─────────────────────────────── station ─ users ─ desk ─ wire
                                                 └─ master ─ Locust's messages ─ worker ─ station ─ …

    clock     users up, warm-up, window, cool-down            recorder, report   raw samples, their sum over processes
    station   one process's part in it                        arrivals, alarm    when an open workload sends
    users     Locust users, closed and open workloads         health             event loop lag, CPU
    desk      one call                                        outcome            files between the processes
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from loadtest.access import Access
from loadtest.cell import CellSpec, GeneratorSide
from loadtest.errors import GeneratorError, UsageError
from loadtest.generator.outcome import (
    COUNTED,
    END,
    NO_SAMPLES,
    WINDOW_END,
    Distributed,
    Job,
    Outcome,
    event_of,
    read_outcome,
    write_job,
)
from loadtest.target import Target

__all__ = ["Distributed", "Outcome", "process_environment", "run"]

START_LIMIT_S = 120.0  # imports, texts, worker processes: on a busy machine
END_LIMIT_S = 90.0  # last calls, answers asked again, files
STDERR_LINES = 15
REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


def run(
    spec: CellSpec,
    target: Target,
    access: Access,
    *,
    on_event: Callable[[str], None],
    distributed: Distributed | None = None,
) -> Outcome:
    """Makes the load of a cell.

    KeyboardInterrupt (Ctrl-C) ends the window at once; what was measured until then is returned, ``interrupted``. A
    second one ends everything.

    Args:
        spec: the cell.
        target: who is asked.
        access: headers and certificates.
        on_event: told ``users-up``, ``window-start`` and ``window-end`` as they happen.
        distributed: generators on other machines; None makes the load here.

    Raises:
        GeneratorError: the load could not be made, or not all of it; nothing was measured.
        UsageError: texts, batch size, URL or a number of users that cannot be.
    """
    job = Job(spec, target, distributed)
    if spec.workload.users is not None and spec.workload.users < job.processes:
        raise UsageError(
            f"{spec.workload.users} user(s) for {job.processes} load-generating processes: each needs at least one user"
        )
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        folder = Path(name)
        write_job(folder, job)
        with _process(folder, access) as process:
            interrupted = _follow(process, on_event, time.monotonic() + _limit_s(job))
        outcome = read_outcome(folder)
    if outcome is not None:
        return outcome
    if interrupted:
        return Outcome(NO_SAMPLES, _NOTHING_DONE, {}, 0.0, True, "")
    raise GeneratorError(process.last_words())


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which ``python -m loadtest.generator`` is found, whatever the working directory."""
    paths = [str(REPOSITORY_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


class _Process:
    """A generator process, its lines of standard output, and the last ones of its standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: queue.Queue[str | None] = queue.Queue()
        self._process = process
        self._last: deque[str] = deque(maxlen=STDERR_LINES)
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def tell(self, word: str) -> None:
        """Tells it `END`, which ends the window, or `COUNTED`."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(f"{word}\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def last_words(self) -> str:
        """Why there is no outcome."""
        status = self._process.poll()
        how = f"was ended by signal {-status}" if status and status < 0 else f"ended with status {status}"
        words = "\n".join(self._last) or "it wrote nothing to standard error"
        return f"the load generator {how} and left no outcome; its last words:\n{words}"

    def end(self) -> None:
        """Ends the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _read_stdout(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.put(line)
        self.lines.put(None)

    def _read_stderr(self, stream: IO[str]) -> None:
        for line in stream:
            self._last.append(line.rstrip())


@contextmanager
def _process(folder: Path, access: Access) -> Iterator[_Process]:
    """A generator process in a session of its own, out of Ctrl-C's reach; gone, with its children, at the end."""
    process = _Process(
        subprocess.Popen(
            [sys.executable, "-m", "loadtest.generator", "--job", str(folder), "--end-with-parent"],
            env=process_environment(access.to_environment()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    )
    try:
        yield process
    finally:
        process.end()


def _follow(process: _Process, on_event: Callable[[str], None], deadline_s: float) -> bool:
    """Passes events on until the process closes its output; whether it was asked to end early."""
    interrupted = False
    while True:
        try:
            line = process.lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            if line is None:
                return interrupted
            event = event_of(line)
            if event is not None:
                on_event(event)
                if event == WINDOW_END:
                    process.tell(COUNTED)
        except KeyboardInterrupt:  # noqa: PERF203
            if interrupted:
                raise
            interrupted = True
            process.tell(END)
        except queue.Empty:
            raise GeneratorError(
                "the load generator did not end in time and was killed: a fault of loadtest, or a machine without a "
                "core to spare"
            ) from None


def _limit_s(job: Job) -> float:
    spec = job.spec
    users_s = (spec.workload.users or 0) / 50
    waiting_s = job.distributed.wait_s if job.distributed else 0.0
    return START_LIMIT_S + waiting_s + users_s + spec.warm_up_s + spec.max_duration_s + 3 * spec.timeout_s + END_LIMIT_S


_NOTHING_DONE = GeneratorSide(
    processes=1,
    max_cpu_share=0.0,
    cpu_cores=0.0,
    loop_lag_p99_ms=0.0,
    send_lag_p99_ms=None,
    missed_sends=0,
    unfinished=0,
    reasked=0,
    changed=0,
    mean_request_bytes=0.0,
    lengths="",
)
