"""What a master and its workers tell each other about a cell, as Locust's custom messages.

Owns the names and contents. Locust's own messages do the rest: workers connect, are told which users to spawn, and send
heartbeats.

    master ── CELL ──▶ worker     spec, target, access: prepare
           ◀── READY or BROKEN ── prepared, or why not
           ── (Locust: spawn, spawning_complete) ──▶
           ◀── UP ──              every user has had its first answer
           ── BEGIN ──▶           the window begins: on the worker's own clock
           ◀── PROGRESS ──        calls that have ended, ten times a second
           ── END ──▶             the window ends, the load goes on
           ◀── SAMPLES … REPORT ──  raw samples in parts, then the rest; the users have stopped
           ── REASK ──▶           now this worker alone asks some requests again
           ◀── REASKED ──
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from loadtest.access import Access
from loadtest.generator.outcome import Job
from loadtest.generator.report import Report

CELL = "loadtest-cell"
READY = "loadtest-ready"
BROKEN = "loadtest-broken"
UP = "loadtest-up"
BEGIN = "loadtest-begin"
PROGRESS = "loadtest-progress"
END = "loadtest-end"
SAMPLES = "loadtest-samples"
REPORT = "loadtest-report"
REASK = "loadtest-reask"
REASKED = "loadtest-reasked"

FROM_WORKERS = (READY, BROKEN, UP, PROGRESS, SAMPLES, REPORT, REASKED)
PART_BYTES = 1 << 20


def cell(job: Job, access: Access, process_index: int) -> dict[str, Any]:
    """The content of `CELL`: the job goes to a worker's memory, not to its disk."""
    return {"job": json.dumps(asdict(job)), "access": asdict(access), "process_index": process_index}


def read_cell(content: dict[str, Any]) -> tuple[Job, Access, int]:
    """Reads what `cell` made."""
    from pydantic import TypeAdapter

    job = TypeAdapter(Job).validate_json(content["job"])
    return job, Access(**content["access"]), content["process_index"]


def parts(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """A report as messages: its arrays in parts of a megabyte as `SAMPLES`, then the rest as `REPORT`."""
    message = report.to_message()
    arrays = {**message.pop("arrays")}
    for name in ("loop_lags_s", "send_lags_s"):
        arrays[name] = message.pop(name)
    for name, content in arrays.items():
        for start in range(0, len(content), PART_BYTES):
            yield SAMPLES, {"array": name, "bytes": content[start : start + PART_BYTES]}
    yield REPORT, {**message, "arrays": list(arrays)}


def whole(rest: dict[str, Any], samples: list[dict[str, Any]]) -> Report:
    """The report that `parts` cut up."""
    arrays: dict[str, bytearray] = {name: bytearray() for name in rest["arrays"]}
    for part in samples:
        arrays[part["array"]] += part["bytes"]
    joined = {name: bytes(content) for name, content in arrays.items()}
    lags = {name: joined.pop(name) for name in ("loop_lags_s", "send_lags_s")}
    return Report.from_message({**rest, **lags, "arrays": joined})
