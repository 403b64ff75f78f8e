"""``python -m loadtest hardware add|show``: measured rows of machines beside the published ones (T4)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.conclusions.hardware import STORE

if TYPE_CHECKING:
    from loadtest.cell import HardwareRow
    from loadtest.results import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's two actions and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|show")
    add = actions.add_parser("add", help="takes the measured row of a run's machine")
    add.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="the run: results/<run>, with a capacity or a concurrency sweep (default: the newest with a capacity)",
    )
    add.add_argument("--model", metavar="NAME", help="(default: every model of the run that has such cells)")
    add.add_argument(
        "--name", metavar="TEXT", help="what to call the machine; stands beside what was found out about it"
    )
    show = actions.add_parser("show", help="prints all rows beside the published ones")
    show.add_argument("--json", dest="as_json", action="store_true", help="the measured rows as JSON on stdout")
    for action in (add, show):
        add_store_argument(action)


def add_store_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds ``--store``."""
    parser.add_argument(
        "--store", type=Path, default=STORE, metavar="FILE", help="the rows of all machines (default: %(default)s)"
    )


def add_row(folder: RunFolder, model: str, *, name: str | None, store: Path) -> str:
    """Makes the row of a model and keeps it in the store and in the run; returns a sentence about it.

    Raises:
        ResultsError: no cell of the run can stand for the machine, or a file cannot be read or written.
        UsageError: the server was on another machine, and nothing says which.
    """
    from loadtest.conclusions.hardware import Store, row_of

    row = row_of(folder.read(), model, name)
    folder.put_hardware(row)
    newer = Store(store).put(row)
    if newer is not None:
        return f"{store} has a later row of {row.hardware}, {model}, measured on {newer.measured_on}: it stays."
    return f"{store}: {_sentence(row)}"


def _sentence(row: HardwareRow) -> str:
    precision = f", {row.precision}" if row.precision else ""
    return (
        f"{row.hardware}: {row.sentences_per_s:.4g} sentences/s, P99 {row.p99_ms:.3g} ms ({row.model}{precision}, "
        f"batch size {row.batch_size}, {row.workload}, run {row.run})"
    )


def _add(options: argparse.Namespace) -> int:
    from loadtest.commands.cost import newest_with_capacity
    from loadtest.conclusions.hardware import models_with_rows, row_of
    from loadtest.errors import ResultsError
    from loadtest.options import RESULTS
    from loadtest.results import RunFolder

    source = options.source or newest_with_capacity(RESULTS)
    folder = RunFolder.open(source)
    run = folder.read()
    models = [options.model] if options.model else models_with_rows(run)
    if not models:
        raise ResultsError(
            f"{source} has no cells that can stand for its machine: run `python -m loadtest capacity "
            f"--output {source}` first"
        )
    for model in models:
        row_of(run, model, options.name)  # all or none
    for model in models:
        print(add_row(folder, model, name=options.name, store=options.store))
    print("Next: python -m loadtest hardware show")
    return 0


def _show(options: argparse.Namespace) -> int:
    from pydantic import TypeAdapter

    from loadtest import report
    from loadtest.cell import HardwareRow, Run, RunInfo
    from loadtest.conclusions.hardware import Store
    from loadtest.server_side import machine

    rows = Store(options.store).rows()
    if options.as_json:
        sys.stdout.write(TypeAdapter(tuple[HardwareRow, ...]).dump_json(rows, indent=2).decode() + "\n")
        return 0
    info = RunInfo(command=("hardware", "show"), created_at="", machine=machine.describe())
    print(report.table_markdown(4, Run("hardware", info, hardware=rows)))
    if not rows:
        print(
            "\nNothing measured yet. Next: python -m loadtest capacity; python -m loadtest hardware add --from FOLDER"
        )
    return 0


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    return _add(options) if options.action == "add" else _show(options)
