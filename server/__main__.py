"""``python -m server``: says in one line what is missing before anything that could be missing is imported."""

from __future__ import annotations

import importlib
import sys

from server.errors import PlatformError
from server.installation import PIP_INSTALL, Machine, check_platform

COMMANDS = ("reload", "rollback", "versions", "verify", "prepare")  # of server.subcommands


def main() -> int:
    """Runs `server.command`, or `server.subcommands` where the first word says so; returns the exit code."""
    words = sys.argv[1:]
    starts = words[:1] == [] or words[0] not in COMMANDS
    if starts and not {"-h", "--help"} & set(words):
        try:
            check_platform(Machine.this())  # first: where there is no wheel, telling to install it would be wrong
        except PlatformError as exc:
            print(f"server: error: {exc.message}", file=sys.stderr)
            return 1
    try:
        run = importlib.import_module("server.command" if starts else "server.subcommands").main
    except ModuleNotFoundError as exc:
        missing = f"the package {exc.name} is not installed for {sys.executable}"
        print(f"server: error: {missing}; run: {PIP_INSTALL}", file=sys.stderr)
        return 1
    return int(run(words))


if __name__ == "__main__":
    sys.exit(main())
