"""``python -m loadtest concurrency``: throughput against latency as users are added, and where the knee is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest import options as command_line
from loadtest.cell import CellResult, CellSpec, Workload

if TYPE_CHECKING:
    from loadtest.options import Session
    from loadtest.target import Target

USERS = (1, 2, 4, 8, 16, 32, 64)
NEXT = "python -m loadtest capacity --p99-ms 500 --output {folder}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    load = parser.add_argument_group("load")
    load.add_argument(
        "--users",
        nargs="+",
        type=command_line.count,
        default=list(USERS),
        metavar="N",
        help=f"closed workloads: N users that each wait for their answer (default: {' '.join(map(str, USERS))})",
    )
    command_line.add_batch_size_argument(load)
    command_line.add_common_arguments(parser)


def concurrency_specs(session: Session, target: Target, users: Sequence[int], batch_size: int = 1) -> list[CellSpec]:
    """A cell for each number of users.

    Raises:
        UsageError: settings that do not go together.
    """
    from loadtest.conclusions.capacity_search import CONCURRENCY_SERIES

    return [
        session.spec(CONCURRENCY_SERIES, target.model, batch_size=batch_size, workload=Workload(users=number))
        for number in users
    ]


def knee_sentence(cells: Sequence[CellResult]) -> str:
    """Where the knee is, in words; see `loadtest.conclusions.capacity.knee` for the rule."""
    from loadtest.conclusions.capacity import knee

    found = knee(cells)
    if found is None:
        return "No cell counts, so there is no knee to show."
    client = found.client
    p99 = f"P99 {client.latency_ms['p99'].value:.3g} ms" if "p99" in client.latency_ms else "no P99"
    return (
        f"The knee is at {found.spec.workload}: {client.sentences_per_s.value:.3g} sentences/s, {p99}; "
        "the fewest users with at least 95 % of the best throughput."
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    session = command_line.session(options)
    command_line.distinct("--users", options.users)
    from loadtest import campaign, measure
    from loadtest.conclusions.capacity_search import CONCURRENCY_SERIES
    from loadtest.results import RunFolder
    from loadtest.sweep import sweep

    target = measure.inspect(session, session.model)
    specs = concurrency_specs(session, target, options.users, options.batch_size)
    measure.check(specs, target)
    if session.dry_run:
        return campaign.print_plan(specs, session)

    def work(folder: RunFolder) -> campaign.Finding:
        cells = sweep(specs, [target], session, folder)
        return campaign.finding_of(cells, knee_sentence(cells))

    return campaign.conduct(session, work, next_step=campaign.follow_up(session, NEXT), series=(CONCURRENCY_SERIES,))
