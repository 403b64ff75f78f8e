"""``python -m loadtest report results/<run>``: one page, Markdown, CSV and JSON of what a run folder holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loadtest.flags import positive
from loadtest.report import cells_markdown, update_readme, write_report
from loadtest.results import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run folder, ``--limit-ms`` and ``--readme``."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder, for example results/batch-size-…")
    parser.add_argument(
        "--limit-ms",
        type=positive,
        metavar="MS",
        help="P99 limit to judge by (default: that of the run's capacity, else the published 500)",
    )
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="also write T1 to T5 between their markers, <!-- table T1 --> and so on",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the report beside the run and prints its cells. Returns 0: that a cell failed was the run's own status.

    Raises:
        ResultsError: no run is there, it is damaged, or something cannot be written.
    """
    folder = RunFolder.open(options.folder)
    found = folder.read()
    written = write_report(found, folder.samples, folder.path, limit_ms=options.limit_ms)
    if options.readme is not None:
        update_readme(options.readme, found, options.limit_ms)
        written.append(options.readme)
    sys.stdout.write(f"{cells_markdown(found.cells, options.limit_ms)}\n\n")
    sys.stdout.write(f"Wrote {', '.join(str(path) for path in written)}. Next: open {written[0].resolve().as_uri()}\n")
    return 0
