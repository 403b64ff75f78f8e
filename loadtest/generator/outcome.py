"""What goes into a generator process and what comes out of it: the job file, the outcome files, the line of an event.

Owns these files and lines, on both sides. Not what is in them, and no access to servers: headers travel in the
environment (`loadtest.access`). No gevent, no Locust.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.cell import CellSpec, GeneratorSide
from loadtest.errors import GeneratorError, LoadTestError, UsageError
from loadtest.samples import Samples
from loadtest.target import Target

USERS_UP = "users-up"
WINDOW_START = "window-start"
WINDOW_END = "window-end"
# What the process is told on its standard input.
END = "end"  # the window ends now
COUNTED = "counted"  # the server's counters of the window have been read

_JOB = "job.json"
_OUTCOME = "outcome.json"
_SAMPLES = "samples.npz"
_ERRORS: dict[str, type[LoadTestError]] = {"UsageError": UsageError, "GeneratorError": GeneratorError}
_NOTHING = np.zeros(0)
NO_SAMPLES = Samples(_NOTHING, _NOTHING, np.zeros(0, np.uint8), (), _NOTHING)


@dataclass(frozen=True)
class Distributed:
    """Generators on other machines make the load: ``python -m loadtest worker``.

    Attributes:
        bind_host: address that they connect to.
        bind_port: its port.
        expect_workers: the cell begins once so many are there.
        wait_s: for them, at most.
    """

    bind_host: str
    bind_port: int
    expect_workers: int
    wait_s: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        samples: of all processes, in the order in which they ended; times of each process are on its own clock, from
        its own
            start of the window.
        side: what the generator did.
        failure_examples: one message of each kind of failure in ``samples``.
        duration_s: the real window; 0 if it never began.
        interrupted: ended by hand.
        started_at: ISO 8601, UTC, when the window began; "" if it never did.
    """

    samples: Samples
    side: GeneratorSide
    failure_examples: dict[str, str]
    duration_s: float
    interrupted: bool
    started_at: str


@dataclass(frozen=True)
class Job:
    """What a generator process is to do."""

    spec: CellSpec
    target: Target
    distributed: Distributed | None = None

    @property
    def processes(self) -> int:
        """Processes with users, here or elsewhere."""
        return self.distributed.expect_workers if self.distributed else self.spec.processes


def write_job(folder: Path, job: Job) -> None:
    """Writes the job into a folder that only this cell uses."""
    (folder / _JOB).write_text(json.dumps(asdict(job)))


def read_job(folder: Path) -> Job:
    """Reads what `write_job` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(Job).validate_json((folder / _JOB).read_text())


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Writes samples, then the rest; whole or absent."""
    outcome.samples.save(folder / _SAMPLES)
    rest = {
        "side": asdict(outcome.side),
        "failure_examples": outcome.failure_examples,
        "duration_s": outcome.duration_s,
        "interrupted": outcome.interrupted,
        "started_at": outcome.started_at,
    }
    _write(folder, rest)


def write_error(folder: Path, error: LoadTestError) -> None:
    """Leaves an error instead of an outcome."""
    _write(folder, {"error": type(error).__name__, "message": str(error)})


def read_outcome(folder: Path) -> Outcome | None:
    """What the process left; None if it left nothing.

    Raises:
        UsageError, GeneratorError: it left an error.
    """
    if not (folder / _OUTCOME).exists():
        return None
    rest = json.loads((folder / _OUTCOME).read_text())
    if "error" in rest:
        raise _ERRORS.get(rest["error"], GeneratorError)(rest["message"])
    rest["side"] = GeneratorSide(**rest["side"])
    return Outcome(samples=Samples.load(folder / _SAMPLES), **rest)


def event_line(event: str) -> str:
    """An event as a line of the process's standard output."""
    return json.dumps({"event": event}) + "\n"


def event_of(line: str) -> str | None:
    """The event of such a line; None if it is none."""
    try:
        parsed: Any = json.loads(line)
    except ValueError:
        return None
    event = parsed.get("event") if isinstance(parsed, dict) else None
    return event if isinstance(event, str) else None


def _write(folder: Path, content: dict[str, Any]) -> None:
    partial = folder / f".{_OUTCOME}.partial"
    partial.write_text(json.dumps(content))
    partial.replace(folder / _OUTCOME)
