"""``python -m loadtest capacity``: the largest batch size and load that keep P99 and failures within limits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from loadtest import options as command_line
from loadtest.cell import INVALID, Workload
from loadtest.commands.batch_size import SIZES, sizes_for

if TYPE_CHECKING:
    from loadtest.conclusions.capacity import Search

P99_LIMIT_MS = 500.0
NEXT = "python -m loadtest cost --monthly-price PRICE --from {folder}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags; ``--max-error-rate`` is among the common ones."""
    load = parser.add_argument_group("limit and load")
    load.add_argument(
        "--p99-ms",
        type=command_line.positive,
        default=P99_LIMIT_MS,
        metavar="MS",
        help="latency that 99 %% of requests must stay within (default: %(default)g)",
    )
    command_line.add_sizes_argument(load, SIZES)
    load.add_argument(
        "--users",
        type=command_line.count,
        default=1,
        metavar="N",
        help="of the batch sizes' closed workload (default: %(default)s)",
    )
    command_line.add_common_arguments(parser)


def sentences(search: Search) -> tuple[str, ...]:
    """What was found, in words."""
    return (_batch_sentence(search), _rate_sentence(search))


def _p99(search: Search, cell_id: str) -> str:
    return f"P99 {search.cell(cell_id).client.latency_ms['p99'].value:.3g} ms"


def _batch_sentence(search: Search) -> str:
    found = search.capacity
    limit = f"P99 <= {found.p99_limit_ms:g} ms"
    if found.largest_batch_size is None:
        invalid = sum(cell.verdict == INVALID for cell in search.cells if cell.spec.workload.users is not None)
        unknown = f" ({invalid} measurements are invalid and say nothing of the server)" if invalid else ""
        return f"No batch size that was tried has {limit}{unknown}."
    return f"Largest batch size with {limit}: {found.largest_batch_size} ({_p99(search, found.batch_size_cell)})."


def _rate_sentence(search: Search) -> str:
    found, rates = search.capacity, search.rates
    if rates is None:
        return "No load is within the limit: half the requests of a lone user take longer."
    bound = "the load generator was the bottleneck above it: try more --processes, or workers on other machines"
    if found.rate_per_s is None:
        reason = f" ({bound})" if rates.generator_bound else ""
        return f"No load that was tried is within the limit{reason}."
    broken = f"; {rates.broken_per_s:g} requests/s broke the limit" if rates.broken_per_s else ""
    size = f"{found.rate_per_s:g} requests/s at batch size 1 ({_p99(search, found.rate_cell)}{broken})"
    if found.rate_is_bound:
        return f"Largest load: {size}."
    return f"Largest load: at least {size}; {bound if rates.generator_bound else 'the search ran out of steps'}."


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    session = command_line.session(options)
    command_line.distinct("--sizes", options.sizes or ())
    from loadtest import campaign, measure
    from loadtest.conclusions.capacity_search import BATCH_SIZE_SERIES, SERIES, batch_specs, find_capacity
    from loadtest.results import RunFolder

    target = measure.inspect(session, session.model)
    sizes, note = sizes_for(target, options.sizes)
    specs = batch_specs(session, target, sizes, Workload(users=options.users))
    measure.check(specs, target)
    if session.dry_run:
        return campaign.print_plan(specs, session, f"{note} Then rates, as the search goes.".strip())

    def work(folder: RunFolder) -> campaign.Finding:
        search = find_capacity(session, target, folder, sizes=sizes, users=options.users, p99_limit_ms=options.p99_ms)
        found = search.capacity.largest_batch_size is not None or search.capacity.rate_per_s is not None
        return campaign.Finding(found, (*sentences(search), *([note] if note else [])))

    series = (BATCH_SIZE_SERIES, SERIES)
    return campaign.conduct(session, work, next_step=campaign.follow_up(session, NEXT, server=False), series=series)
