"""The command; see the package."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import asdict
from types import FrameType

from bench.compare.contestants import selected
from bench.models import MODELS
from bench.result import publish


def main() -> int:
    """Measures, prints, writes ``results/bench-<model>.md`` and ``.json``; 1 if no row has a figure."""
    options = _parser().parse_args()
    try:
        contestants = selected(options.rows)
    except ValueError as exc:
        print(f"python -m bench.compare: {exc}", file=sys.stderr)
        return 2
    if options.list:
        for contestant in contestants:
            print(f"{contestant.name}  [{contestant.where}; {contestant.settings}]")
        return 0

    from bench.compare import goals, report
    from bench.compare.run import Plan, run
    from bench.compare.workload import work

    signal.signal(signal.SIGTERM, _interrupt)  # so that everything started is ended
    everything = work(options.model)
    result = run(contestants, everything, Plan(options.rounds, options.seconds, options.clients))
    method = report.method(
        everything, rounds=options.rounds, seconds=options.seconds, clients=options.clients, padding=result.padding
    )
    more = {
        "model": options.model,
        "lengths": asdict(everything.lengths),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "clients": options.clients,
        "blocks": [asdict(block) for block in result.blocks],
        "machine": [asdict(rates) for rates in result.rates],
        "half_load": [asdict(half) for half in result.half_loads],
        "goals": [asdict(goal) for goal in goals.judged(result)],
    }
    publish(f"bench-{options.model}", method, report.markdown(result), result.rows, more=more, markdown=True)
    return 0 if result.blocks else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description="This project beside what people use today: same checkpoint, texts, cores and clients, in turn.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", choices=list(MODELS), default="bert-base", help="(default: %(default)s)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="name, a part of it or a pattern with *")
    parser.add_argument("--rounds", type=_at_least_one, default=3, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a row in a round (default: %(default)s)")
    parser.add_argument("--clients", type=_at_least_one, default=32, help="at once (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    return parser


def _at_least_one(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
