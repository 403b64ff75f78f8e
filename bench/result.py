"""What every benchmark ends with: its method and table on stdout, and the same as JSON under ``results/``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

FOLDER = Path("results")


def publish(name: str, method: str, table: str, rows: Sequence[Any]) -> None:
    """Prints method and table, and writes ``results/<name>.json``, whole or not at all.

    Args:
        name: the make target.
        method: how it was measured, on what, and when.
        table: Markdown.
        rows: dataclasses, what the table was made from.
    """
    print(f"{method}\n\n{table}")
    FOLDER.mkdir(exist_ok=True)
    result = FOLDER / f"{name}.json"
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps({"method": method, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    partial.rename(result)
    print(f"wrote {result}", file=sys.stderr)
