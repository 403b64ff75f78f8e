"""The command; see the package."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench.drill import change, failure, overload, soak
from bench.drill.findings import Finding, table
from bench.drill.served import Served
from bench.load import cpu_name
from bench.models import MODELS
from bench.result import publish

Drill = Callable[[Served, argparse.Namespace], tuple[str, list[Finding]]]
DRILLS: dict[str, Drill] = {
    "overload": lambda served, options: overload.drill(served, options.overload_s),
    "failure": lambda served, _: failure.drill(served),
    "change": lambda served, _: change.drill(served),
    "soak": lambda served, options: soak.drill(served, 60 * options.soak_minutes),
}
USUAL = ("overload", "failure", "change")


def main() -> int:
    """Drills, prints, writes ``results/drill-<name>.md`` and ``.json``; 1 if something was not as wanted."""
    options = _parser().parse_args()
    served = Served.of(options.model)
    missed = 0
    for name in options.drills or USUAL:
        said, findings = DRILLS[name](served, options)
        missed += sum(finding.met is False for finding in findings)
        method = f"Drill: {name}. {said}. {cpu_name()}, {time.strftime('%Y-%m-%d')}."
        publish(f"drill-{name}", method, table(findings), findings, markdown=True)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.drill",
        description="What the server does when it is asked for too much, when parts of it die, and over a long time.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "drills",
        nargs="*",
        choices=[[], *DRILLS],
        metavar="DRILL",
        help=f"{', '.join(DRILLS)} (default: {', '.join(USUAL)})",
    )
    parser.add_argument("--model", choices=list(MODELS), default="bert-base", help="(default: %(default)s)")
    parser.add_argument("--overload-s", type=float, default=120.0, help="seconds of overload (default: %(default)s)")
    parser.add_argument("--soak-minutes", type=float, default=30.0, help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
