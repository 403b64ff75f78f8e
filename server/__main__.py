"""``python -m server``: says in one line what is missing before anything that could be missing is imported."""

from __future__ import annotations

import sys

from server.errors import PlatformError
from server.installation import PIP_INSTALL, Machine, check_platform


def main() -> int:
    """Runs `server.command`; returns the exit code."""
    if not {"-h", "--help"} & set(sys.argv[1:]):
        try:
            check_platform(Machine.this())  # first: where there is no wheel, telling to install it would be wrong
        except PlatformError as exc:
            print(f"server: error: {exc.message}", file=sys.stderr)
            return 1
    try:
        from server import command
    except ModuleNotFoundError as exc:
        missing = f"the package {exc.name} is not installed for {sys.executable}"
        print(f"server: error: {missing}; run: {PIP_INSTALL}", file=sys.stderr)
        return 1
    return command.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
