"""``python -m loadtest COMMAND``: picks the command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from loadtest.errors import LoadTestError, UsageError
from loadtest.flags import Parser

# command: (module under loadtest.commands, what it does)
COMMANDS = {
    "batch-size": ("batch_size", "throughput and latency at several batch sizes (T3)"),
    "precision": ("precision", "accuracy, size, latency and throughput of several models (T1, T2)"),
    "concurrency": ("concurrency", "throughput against latency as users are added, and where the knee is"),
    "capacity": ("capacity", "the largest batch size and load that keep P99 and failures within limits (T3, T6)"),
    "cost": ("cost", "what 1,000 requests cost at a measured capacity and your price (T5)"),
    "hardware": ("hardware", "this machine's measured row beside the published ones (T4)"),
    "report": ("report", "one HTML page, Markdown, CSV and JSON of a run folder"),
    "tables": ("tables", "all tables, T1 to T5, on the demo model"),
    "worker": ("worker", "makes load for a run on another machine (its --expect-workers)"),
}

DESCRIPTION = """\
Load tests for a Triton that serves BERT: throughput and latency against batch size, users, precision and limits.
Results are files under results/; the same --output resumes a run. Exit status: 0 if all went well, 1 if a limit was
broken or something failed, 2 for flags that cannot be.
"""


def usage() -> str:
    """The text of ``python -m loadtest --help``."""
    lines = [f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m loadtest COMMAND [FLAGS]",
            "",
            DESCRIPTION,
            "commands (`python -m loadtest COMMAND --help` lists the flags of one):",
            *lines,
            "",
            "The web interface: locust -f loadtest/locustfile.py",
        ]
    )


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    options = parsed(words)
    return int(options.run(options))


def parsed(words: Sequence[str]) -> Namespace:
    """What a command line says; ``run`` is the function that does it.

    Raises:
        UsageError: no such command, or flags that cannot be.
    """
    name = words[0]
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}: expected one of {', '.join(COMMANDS)}")
    module_name, what = COMMANDS[name]
    command = import_module(f"loadtest.commands.{module_name}")
    parser = Parser(prog=f"python -m loadtest {name}", description=f"{what[0].upper()}{what[1:]}.")
    command.add_arguments(parser)
    parser.set_defaults(command_name=name, words=tuple(words), run=command.run)
    return parser.parse_args(words[1:])


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: what was measured is kept and reported
    try:
        return _run(sys.argv[1:] if words is None else words)
    except LoadTestError as exc:
        print(f"loadtest: error: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, UsageError) else 1
    except KeyboardInterrupt:
        print("loadtest: error: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
