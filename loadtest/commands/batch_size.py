"""``python -m loadtest batch-size``: throughput and latency at several batch sizes (T3)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest import options as command_line

if TYPE_CHECKING:
    from loadtest.target import Target

SIZES = (1, 8, 16, 32, 64)
NEXT = "python -m loadtest capacity --p99-ms 500 --output {folder}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    load = parser.add_argument_group("load")
    command_line.add_sizes_argument(load, SIZES)
    command_line.add_workload_arguments(load)
    command_line.add_common_arguments(parser)


def sizes_for(target: Target, wanted: Sequence[int] | None) -> tuple[tuple[int, ...], str]:
    """The sizes to measure, and what must be said of them: the default ones are cut to the model's ``max_batch_size``.

    Raises:
        UsageError: a wanted size is given twice, or is over what the model takes.
    """
    from loadtest.target import check_batch_size

    if wanted is not None:
        command_line.distinct("--sizes", wanted)
        for size in wanted:
            check_batch_size(target, size)
        return tuple(wanted), ""
    sizes = tuple(size for size in SIZES if size <= max(1, target.max_batch_size))
    left_out = [str(size) for size in SIZES if size not in sizes]
    if not left_out:
        return sizes, ""
    return sizes, f"Left out: {', '.join(left_out)}, over {target.model}'s max_batch_size {target.max_batch_size}."


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    session = command_line.session(options)
    command_line.distinct("--sizes", options.sizes or ())
    from loadtest import campaign, measure
    from loadtest.conclusions.capacity_search import BATCH_SIZE_SERIES, batch_specs
    from loadtest.results import RunFolder
    from loadtest.sweep import sweep

    target = measure.inspect(session, session.model)
    sizes, note = sizes_for(target, options.sizes)
    specs = batch_specs(session, target, sizes, command_line.workload(options))
    measure.check(specs, target)
    if session.dry_run:
        return campaign.print_plan(specs, session, note)

    def work(folder: RunFolder) -> campaign.Finding:
        return campaign.finding_of(sweep(specs, [target], session, folder), note)

    return campaign.conduct(session, work, next_step=campaign.follow_up(session, NEXT), series=(BATCH_SIZE_SERIES,))
