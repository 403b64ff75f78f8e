"""`python -m demo <command>`: the commands of the demo, each in its own module. Only wires.

python -m demo build [--output build/demo]      the checkpoint and its labelled sentences (also without the word)
python -m demo serve [--stop-after-answers]     the exported checkpoint in Triton, asked and answering
python -m demo tables [--readme README.md]      load tests of it: tables T1 to T5, in results/tables
"""

from __future__ import annotations

import importlib
import sys

# command -> the module whose main(argv) it is
COMMANDS = {"build": "demo.build", "serve": "demo.serve", "tables": "demo.measure"}
_DEFAULT_COMMAND = "build"


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    named = bool(words) and not words[0].startswith("-")
    command = words[0] if named else _DEFAULT_COMMAND
    if command not in COMMANDS:
        print(f"python -m demo: no command {command!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    exit_code: int = importlib.import_module(COMMANDS[command]).main(words[1:] if named else words)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
