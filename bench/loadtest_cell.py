"""One closed load by this project's own load test, run as a user runs it: ``python -m loadtest concurrency``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class LoadTestFailedError(RuntimeError):
    """The load test failed; the message ends with what it said."""


@dataclass(frozen=True)
class Cell:
    """What it measured.

    Attributes:
        requests_per_s: good answers a second.
        p50_ms: median latency of a request.
        p99_ms: 99th percentile.
        cpu_ms: the generator's CPU time of a request.
        verdict: ``ok``, or what was wrong, with the reasons.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    verdict: str


def run(url: str, model: str, *, batch_size: int, users: int, duration_s: float, flags: Sequence[str] = ()) -> Cell:
    """``users`` users for ``duration_s`` seconds after two of warm-up.

    Raises:
        LoadTestFailedError: it measured nothing.
    """
    with tempfile.TemporaryDirectory(prefix="loadtest_") as folder:
        command = [sys.executable, "-m", "loadtest", "concurrency", "--url", url, "--model", model]
        command += ["--users", str(users), "--batch-size", str(batch_size), "--warm-up-s", "2", "--min-requests", "1"]
        command += ["--duration-s", str(duration_s), "--max-duration-s", str(duration_s), "--output", f"{folder}/run"]
        done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
        cells = sorted(Path(folder).glob("run/cells/*.json"))
        if not cells:
            raise LoadTestFailedError(f"{' '.join(command)}: {done.stderr.strip()[-800:]}")
        cell = json.loads(cells[0].read_text())
    client, generator = cell["client"], cell["generator"]
    if not client["latency_ms"]:
        raise LoadTestFailedError(f"{' '.join(command)}: {'; '.join(cell['reasons'])}")
    per_s = client["requests_per_s"]["value"]
    return Cell(
        per_s,
        client["latency_ms"]["p50"]["value"],
        client["latency_ms"]["p99"]["value"],
        generator["cpu_cores"] * 1000 / per_s,
        "; ".join([cell["verdict"], *cell["reasons"]]),
    )
