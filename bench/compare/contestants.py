"""Everybody who takes part, in the order of the table."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from bench.compare.contestant import Contestant
from bench.compare.rows import fastapi, in_process, kit, ours
from bench.rivals import CONTESTANTS as RIVALS


def everybody() -> list[Contestant]:
    """All rows."""
    return [
        *fastapi.CONTESTANTS,
        *RIVALS,
        *kit.CONTESTANTS,
        *in_process.RIVALS,
        *ours.CONTESTANTS,
        *in_process.OURS,
    ]


def selected(patterns: Sequence[str]) -> list[Contestant]:
    """Those whose name matches one of the patterns (``*`` for anything, or a part of the name); all without any.

    Raises:
        ValueError: a pattern that matches none.
    """
    rows = everybody()
    if not patterns:
        return rows
    matching = {pattern: [row for row in rows if _matches(row.name, pattern)] for pattern in patterns}
    for pattern, found in matching.items():
        if not found:
            raise ValueError(f"no row matches {pattern!r}; --list shows them")
    return [row for row in rows if any(row in found for found in matching.values())]


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return pattern in name or fnmatch.fnmatchcase(name, pattern)
