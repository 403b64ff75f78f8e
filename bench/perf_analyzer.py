"""NVIDIA's own load generator, ``perf_analyzer``: what ours is compared with.

It comes inside the wheel of an older ``tritonclient`` and needs two libraries that come with pip's Triton; both are put
together under ``build/`` on first use. Nothing here measures; it runs the program and reads its report.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("build/perf_analyzer")
WHEEL = "tritonclient==2.47.0"  # the last wheels with the program inside
MEMBER = "data/bin/perf_analyzer"
# As the program asks for them -> as the Triton wheel names them, before its hash.
LIBRARIES = {"libb64.so.0d": "libb64-", "libcudart.so.12": "libcudart-"}
WINDOWS = 3  # it repeats its window until three in a row agree, and reports all three


class PerfAnalyzerError(RuntimeError):
    """perf_analyzer could not be had, or failed; the message ends with what it said."""


@dataclass(frozen=True)
class Report:
    """What perf_analyzer reports of one load.

    Attributes:
        requests_per_s: requests, not rows: its own figure divided by the batch size.
        p50_ms: median latency of a request.
        p99_ms: 99th percentile.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def install() -> Path:
    """The program; fetched from the package index on first use.

    Raises:
        PerfAnalyzerError: the wheel cannot be had, or pip's Triton is not installed.
    """
    program = FOLDER / "perf_analyzer"
    if not program.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(FOLDER), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PerfAnalyzerError(f"cannot download {WHEEL}: {done.stderr.strip()}")
        (wheel,) = FOLDER.glob("tritonclient-*.whl")
        _link_libraries()
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith(MEMBER))
            partial = program.with_suffix(".partial")
            partial.write_bytes(archive.read(member))
        partial.chmod(0o755)
        partial.rename(program)
        wheel.unlink()
    return program.resolve()


def _link_libraries() -> None:
    import pytriton

    libraries = Path(pytriton.__file__).parents[1] / "nvidia_pytriton.libs"
    for wanted, prefix in LIBRARIES.items():
        found = sorted(libraries.glob(f"{prefix}*"))
        if not found:
            raise PerfAnalyzerError(f"{libraries} has no {prefix}*: is nvidia-pytriton installed?")
        link = FOLDER / wanted
        link.unlink(missing_ok=True)
        link.symlink_to(found[0].resolve())


def run(
    url: str, model: str, inputs: Sequence[Mapping[str, object]], *, batch_size: int, concurrency: int, window_s: float
) -> Report:
    """A closed load of ``concurrency`` requests at once, measured for ``WINDOWS * window_s`` seconds.

    Args:
        url: ``grpc://host:port`` or ``http://host:port``.
        model: its name in Triton.
        inputs: rows to send in turn, each tensor name -> values, as perf_analyzer's ``--input-data`` takes them.
        batch_size: rows of a request.
        concurrency: requests in flight.
        window_s: one measurement window.

    Raises:
        PerfAnalyzerError: it failed.
    """
    program = install()
    protocol, _, authority = url.partition("://")
    with tempfile.TemporaryDirectory(prefix="perf_analyzer_") as folder:
        data, report = Path(folder) / "inputs.json", Path(folder) / "report.csv"
        data.write_text(json.dumps({"data": list(inputs)}))
        command = [str(program), "-m", model, "-u", authority, "-i", protocol, "-b", str(batch_size)]
        command += ["--concurrency-range", str(concurrency), "--input-data", str(data)]
        command += ["--measurement-interval", str(round(window_s * 1000)), "--stability-percentage", "999"]
        command += ["-f", str(report)]
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER.resolve())}
        done = subprocess.run(command, env=libraries, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode or not report.exists():
            raise PerfAnalyzerError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-800:]}")
        (row,) = csv.DictReader(report.read_text().splitlines())
    return Report(
        float(row["Inferences/Second"]) / batch_size, float(row["p50 latency"]) / 1000, float(row["p99 latency"]) / 1000
    )
