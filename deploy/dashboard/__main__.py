"""``python -m deploy.dashboard``: writes the Grafana dashboard."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .content import whole

PATH = Path(__file__).parents[1] / "grafana" / "dashboards" / "bert-triton.json"


def text() -> str:
    """The file's content; the same every time."""
    return json.dumps(whole(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes the file, or says whether it is what would be written."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dashboard", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=PATH, help="the file to write (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="write nothing; exit 1 if the file would change")
    options = parser.parse_args(arguments)
    made = text()
    if options.dry_run:
        same = options.output.is_file() and options.output.read_text(encoding="utf-8") == made
        print(f"{options.output} {'is up to date' if same else 'would change; run python -m deploy.dashboard'}")
        return 0 if same else 1
    options.output.write_text(made, encoding="utf-8")
    print(f"wrote {options.output}; Grafana reads it within 30 s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
