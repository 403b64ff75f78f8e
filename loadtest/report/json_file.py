"""``report.json``: the run, and its tables as they are shown, for scripts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from loadtest.cell import Run
from loadtest.report.selection import limit_of
from loadtest.report.tables import build_all
from loadtest.results import run_to_json


def report_json(run: Run, limit_ms: float | None = None) -> str:
    """``{"run": …, "p99_limit_ms": …, "tables": {"T1": …}}``."""
    tables = {table.key: asdict(table) for table in build_all(run, limit_ms)}
    content: dict[str, Any] = {"run": run_to_json(run), "p99_limit_ms": limit_of(run, limit_ms), "tables": tables}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
