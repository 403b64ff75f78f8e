"""``python -m loadtest cost``: what 1,000 requests cost at a measured capacity and the user's price (T5)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest import options as flags
from loadtest.errors import ResultsError, UsageError

if TYPE_CHECKING:
    from loadtest.cell import Capacity, Cost
    from loadtest.results import RunFolder

CAPACITY_FOLDER = "capacity"
MEASURE = "python -m loadtest capacity --p99-ms 500"


def _utilisation(text: str) -> float:
    value = flags.share(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a share above 0, up to 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="the run with the capacity (default: the newest under results/ that has one)",
    )
    parser.add_argument("--model", metavar="NAME", help="of the run's capacities (default: all)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="results as JSON on stdout")
    add_price_arguments(parser, required=True)


def add_price_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, required: bool) -> None:
    """Adds what a cost is made of beside the capacity."""
    parser.add_argument(
        "--monthly-price",
        type=flags.positive,
        required=required,
        metavar="PRICE",
        help="of the machine, for a month of 730 hours; no price is known here",
    )
    parser.add_argument("--currency", default="$", metavar="SIGN", help="(default: %(default)s)")
    parser.add_argument("--option", metavar="TEXT", help="what is paid for (default: the machine that was measured)")
    parser.add_argument(
        "--utilisation",
        type=_utilisation,
        default=1.0,
        metavar="SHARE",
        help="share of the capacity that is really asked for, over the month (default: %(default)g)",
    )


def put_costs(folder: RunFolder, options: argparse.Namespace, model: str | None) -> list[tuple[Cost, str]]:
    """Computes the costs from a run's capacities and stores them in it; returns each with a sentence about it.

    Raises:
        ResultsError: the run has no capacity (of that model), or nothing was within its limits.
    """
    from loadtest.conclusions.cost import cost_of, worked

    run = folder.read()
    capacities = [one for one in run.capacities if model in (None, one.model)]
    if not capacities:
        of_model = f" of {model}" if model else ""
        raise ResultsError(f"{folder.path} has no capacity{of_model}: run `{MEASURE} --output {folder.path}` first")
    made: list[tuple[Cost, str]] = []
    for capacity in capacities:
        option = _option(options.option, capacity, folder, several=len(run.capacities) > 1)
        cost = cost_of(
            option,
            options.monthly_price,
            _rate(capacity, folder.path),
            currency=options.currency,
            utilisation=options.utilisation,
        )
        made.append((cost, f"{option}: {worked(cost)} for 1,000 requests; {_measured(capacity)}."))
    for cost, _ in made:
        folder.put_cost(cost)
    return made


def _option(given: str | None, capacity: Capacity, folder: RunFolder, *, several: bool) -> str:
    """What is paid for: the user's words, else the machine that was measured; and the model where that is not clear."""
    if given is not None:
        return f"{given}, {capacity.model}" if several else given
    cell = folder.cell(capacity.rate_cell) if capacity.rate_cell else None
    return f"{cell.setting.hardware if cell is not None else folder.info.machine}, {capacity.model}"


def _rate(capacity: Capacity, folder: Path) -> float:
    if capacity.rate_per_s is None:
        raise ResultsError(
            f"{folder}: no rate of {capacity.model} kept P99 within {capacity.p99_limit_ms:g} ms, so there is nothing "
            "to pay for: measure again with a larger --p99-ms"
        )
    return capacity.rate_per_s


def _measured(capacity: Capacity) -> str:
    rate = (
        "the largest rate"
        if capacity.rate_is_bound
        else "at least the rate (the limit was not reached, so at most the cost)"
    )
    return (
        f"{capacity.rate_per_s:g} requests/s is {rate} of {capacity.model} with P99 within {capacity.p99_limit_ms:g} ms"
    )


def newest_with_capacity(results: Path) -> Path:
    """The run folder whose capacity was measured last.

    Raises:
        ResultsError: there is none.
    """
    newest = max(_capacity_files(results), key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ResultsError(f"no run under {results} has a capacity: run `{MEASURE}` first, or name a run with --from")
    return newest.parent.parent


def _capacity_files(results: Path) -> Iterator[Path]:
    return results.glob(f"*/{CAPACITY_FOLDER}/[!.]*.json")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if not options.currency.strip() or (options.option is not None and not options.option.strip()):
        raise UsageError("--currency and --option: expected some text")
    from loadtest import report
    from loadtest.conclusions.cost import FORMULA
    from loadtest.results import RunFolder

    folder = RunFolder.open(options.source or newest_with_capacity(flags.RESULTS))
    made = put_costs(folder, options, options.model)
    run = folder.read()
    report.write_report(run, folder.samples, folder.path)
    if options.as_json:
        costs = [asdict(cost) for cost, _ in made]
        print(json.dumps({"folder": str(folder.path), "formula": FORMULA, "costs": costs}, indent=2))
        return 0
    print(report.table_markdown(5, run))
    print(f"\nCost of 1,000 requests = {FORMULA}")
    for _, sentence in made:
        print(sentence)
    print(f"Wrote {folder.path}. Next: python -m loadtest report {folder.path}")
    return 0
