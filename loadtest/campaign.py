"""What all measuring commands do around their cells: open the run folder, measure, and, however that ended, print the
table, write the report and say what to run next.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from loadtest import report
from loadtest.cell import OK, CellResult, CellSpec, Run, RunInfo
from loadtest.errors import GeneratorError
from loadtest.flags import DEFAULT_MODEL, DEFAULT_URL
from loadtest.progress import duration_text, expected_s
from loadtest.results import RunFolder, run_to_json
from loadtest.server_side import machine
from loadtest.sweep import SweepStoppedError

if TYPE_CHECKING:
    from loadtest.options import Session


@dataclass(frozen=True)
class Finding:
    """What a command concludes.

    Attributes:
        ok: no limit was broken and nothing failed: exit code 0.
        lines: sentences for people, below the table.
    """

    ok: bool
    lines: tuple[str, ...] = ()


def finding_of(cells: Sequence[CellResult], *lines: str) -> Finding:
    """A finding that is ok if every cell is."""
    return Finding(all(cell.verdict == OK for cell in cells), tuple(line for line in lines if line))


def conduct(
    session: Session, work: Callable[[RunFolder], Finding], *, next_step: str, series: Sequence[str] | None = None
) -> int:
    """Runs ``work`` on the session's run folder and reports; returns the exit code.

    Args:
        session: of the command.
        work: measures, stores and concludes.
        next_step: the command line that makes sense after this one.
        series: of the cells that the command prints; None prints all that are in the folder.

    Raises:
        LoadTestError: nothing could be measured.
    """
    with RunFolder.create_or_resume(session.output, _info(session)) as folder:
        stopped: Exception | None = None
        try:
            finding = work(folder)
        except (SweepStoppedError, GeneratorError) as exc:
            stopped, finding = exc, Finding(ok=False)
        run = folder.read()
        if stopped is not None and not run.cells:
            raise stopped
        cells = tuple(cell for cell in run.cells if series is None or cell.spec.series in series)
        _print_results(replace(run, cells=cells), finding, session)
        if stopped is not None:
            _say(f"loadtest: error: {stopped}", sys.stderr)
        written = report.write_report(run, folder.samples, folder.path)
    _print_last_line(session, written, resume_command(session) if stopped else next_step)
    return 0 if finding.ok else 1


def follow_up(session: Session, template: str, *, server: bool = True) -> str:
    """A command line for the same model and, with ``server``, the same URL; ``{folder}`` becomes the run folder."""
    words = template.format(folder=shlex.quote(str(session.output)))
    model = "" if session.model == DEFAULT_MODEL else f" --model {shlex.quote(session.model)}"
    url = "" if session.url == DEFAULT_URL or not server else f" --url {session.url}"
    return f"{words}{model}{url}"


def resume_command(session: Session) -> str:
    """The command line that goes on with this run."""
    words = list(session.command)
    if not any(word == "--output" or word.startswith("--output=") for word in words):
        words += ["--output", str(session.output)]
    return shlex.join(["python", "-m", "loadtest", *words])


def print_plan(specs: Sequence[CellSpec], session: Session, note: str = "") -> int:
    """What ``--dry-run`` prints: the cells and the time that they take at least. Returns the exit code."""
    if session.as_json:
        cells = [
            {"id": spec.id, "model": spec.model, "batch_size": spec.batch_size, "load": str(spec.workload)}
            for spec in specs
        ]
        _say(json.dumps({"output": str(session.output), "cells": cells}, indent=2))
        return 0
    _say("| cell | model | batch size | load | seconds |\n|---|---|---|---|---|")
    for spec in specs:
        seconds = f"{spec.warm_up_s:g} + {spec.duration_s:g} to {spec.max_duration_s:g}"
        _say(f"| {spec.id} | {spec.model} | {spec.batch_size} | {spec.workload} | {seconds} |")
    if note:
        _say(f"\n{note}")
    total = duration_text(sum(expected_s(spec) for spec in specs))
    _say(f"\n{len(specs)} cells, about {total} or more. Nothing was measured; leave out --dry-run to measure.")
    return 0


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout, flush=True)


def _info(session: Session) -> RunInfo:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return RunInfo(session.command, now, machine.describe(), session.note)


def _print_results(run: Run, finding: Finding, session: Session) -> None:
    if session.as_json:
        results = {"folder": str(session.output), "ok": finding.ok, "findings": finding.lines, "run": run_to_json(run)}
        _say(json.dumps(results, indent=2))
        return
    _say(report.cells_markdown(run.cells))
    for line in finding.lines:
        _say(f"\n{line}")


def _print_last_line(session: Session, written: Sequence[Path], next_step: str) -> None:
    names = ", ".join(path.name for path in written if path.parent == session.output)
    line = f"Wrote {session.output} ({names}). Next: {next_step}"
    _say(line, sys.stderr if session.as_json else sys.stdout)
