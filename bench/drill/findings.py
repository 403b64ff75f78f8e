"""What a drill found, beside what was wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of a drill's table.

    Attributes:
        what: was looked at.
        wanted: in words; empty for a figure that stands by itself.
        found: in words.
        met: whether it is as wanted; None where nothing was.
    """

    what: str
    wanted: str
    found: str
    met: bool | None = None


def table(findings: Sequence[Finding]) -> str:
    """Markdown."""
    says = {True: "yes", False: "no", None: ""}
    lines = ["| what | wanted | found | met |", "|---|---|---|---|"]
    lines += [f"| {line.what} | {line.wanted} | {line.found} | {says[line.met]} |" for line in findings]
    return "\n".join(lines)


def at_most(what: str, limit: float, found: float, unit: str, digits: int = 0) -> Finding:
    """A figure that should not be above a limit."""
    return Finding(what, f"<= {limit:g} {unit}", f"{found:.{digits}f} {unit}", found <= limit)


def at_least(what: str, limit: float, found: float, unit: str, digits: int = 2) -> Finding:
    """A figure that should not be below a limit."""
    return Finding(what, f">= {limit:g} {unit}".rstrip(), f"{found:.{digits}f} {unit}".rstrip(), found >= limit)


def none_of(what: str, found: int, of: int, detail: str = "") -> Finding:
    """Something that should not happen."""
    return Finding(what, "0", f"{found} of {of}" + (f" ({detail})" if detail else ""), found == 0)
