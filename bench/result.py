"""What every benchmark ends with: its method and table on stdout, and the same as JSON under ``results/``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

FOLDER = Path("results")


def publish(
    name: str,
    method: str,
    table: str,
    rows: Sequence[Any],
    *,
    more: Mapping[str, Any] | None = None,
    markdown: bool = False,
) -> None:
    """Prints method and table, and writes ``results/<name>.json``, whole or not at all.

    Args:
        name: the make target.
        method: how it was measured, on what, and when.
        table: Markdown.
        rows: dataclasses, what the table was made from.
        more: what else goes into the JSON.
        markdown: also writes method and table to ``results/<name>.md``.
    """
    text = f"{method}\n\n{table}"
    print(text)
    FOLDER.mkdir(exist_ok=True)
    content = {"method": method, "rows": [asdict(row) for row in rows], **(more or {})}
    files = {f"{name}.json": json.dumps(content, indent=2)}
    if markdown:
        files[f"{name}.md"] = text
    for file, written in files.items():
        result = FOLDER / file
        partial = result.with_suffix(result.suffix + ".partial")
        partial.write_text(written.rstrip() + "\n")
        partial.rename(result)
        print(f"wrote {result}", file=sys.stderr)
