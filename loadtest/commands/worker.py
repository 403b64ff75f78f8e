"""``python -m loadtest worker``: makes load for a run on another machine, or in another terminal.

The work is a gevent process's: this one becomes it, so that Ctrl-C ends it as usual.
"""

from __future__ import annotations

import argparse
import os
import sys

from loadtest.flags import count

DETAILS = """\
Waits for a master (any measuring command with --expect-workers and --master-bind-host), makes its share of each cell,
and waits
again until Ctrl-C. What to ask, and headers with their secrets, come from the master over its unencrypted connection
and stay in memory: connect over a network that you trust. Files that the run names (--texts, --ca-certificates) must
be here under the same paths.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.epilog = DETAILS
    parser.add_argument("--master-host", default="127.0.0.1", metavar="HOST", help="(default: %(default)s)")
    parser.add_argument("--master-port", type=count, default=5557, metavar="PORT", help="(default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="end after one cell")


def run(options: argparse.Namespace) -> int:
    """Becomes the worker process."""
    from loadtest.generator import process_environment

    master = f"{options.master_host}:{options.master_port}"
    command = [sys.executable, "-m", "loadtest.generator", "--master", master]
    sys.stdout.flush()
    words = [*command, *(["--once"] if options.once else [])]
    os.execve(sys.executable, words, process_environment(os.environ))  # noqa: S606
