"""What stands on top of a report: the verdict, what was measured on what, what was found, what to beware of."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.cell import FAILED, INTERRUPTED, INVALID, OK, Capacity, CellResult, Run
from loadtest.report.caption import dates_of, model_of
from loadtest.report.figures import number, with_interval
from loadtest.report.load_tables import advice
from loadtest.report.selection import batch_groups, cell_of

_NUMBERS = re.compile(r"\d[\d.,]*")
WORDS = {OK: "ok", FAILED: "failed", INVALID: "invalid", INTERRUPTED: "interrupted"}


@dataclass(frozen=True)
class Summary:
    """The head of a report.

    Attributes:
        sentence: how many cells there are and what became of them.
        tone: ``ok``, ``failed`` if any cell failed, was invalid or was interrupted, ``empty`` without cells.
        counts: (verdict, number of cells).
        facts: (name, text): hardware, software, models, date, command.
        findings: what the run concludes.
        warnings: (text, ids of the cells that it is about).
    """

    sentence: str
    tone: str
    counts: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    warnings: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, run: Run, limit_ms: float) -> Summary:
        """The head of ``run``'s report."""
        counter = Counter(cell.verdict for cell in run.cells)
        counts = tuple(
            (WORDS.get(name, name), counter[name]) for name in (OK, FAILED, INVALID, INTERRUPTED) if counter[name]
        )
        warnings = tuple((text, tuple(ids)) for text, ids in remarks(run.cells, reasons=False))
        tone = "empty" if not run.cells else "ok" if set(counter) == {OK} else "failed"
        return cls(_sentence(run, counts), tone, counts, _facts(run), _findings(run, limit_ms), warnings)


def _sentence(run: Run, counts: tuple[tuple[str, int], ...]) -> str:
    if not run.cells:
        return "No cell was measured."
    total = len(run.cells)
    if counts == ((WORDS[OK], total),):
        return f"{total} cell{'' if total == 1 else 's'} measured, all ok."
    return (
        f"{total} cell{'' if total == 1 else 's'} measured: {', '.join(f'{count} {name}' for name, count in counts)}."
    )


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    cells = run.cells
    hardware = " / ".join(dict.fromkeys(cell.setting.hardware for cell in cells))
    machines = [("server", hardware), ("load generator", run.info.machine)]
    if hardware == run.info.machine:
        machines = [("server and load generator", hardware)]
    facts = [
        *machines,
        ("Triton", " / ".join(dict.fromkeys(cell.setting.triton_version for cell in cells))),
        ("models", "; ".join(dict.fromkeys(model_of(cell) for cell in cells))),
        ("protocol", " / ".join(dict.fromkeys(cell.spec.protocol for cell in cells))),
        ("measured (UTC)", dates_of(cells) or run.info.created_at[:10]),
        ("command", shlex.join(["python", "-m", "loadtest", *run.info.command])),
        ("note", run.info.note),
    ]
    return tuple((name, text) for name, text in facts if text)


def _findings(run: Run, limit_ms: float) -> tuple[str, ...]:
    found = [sentence for capacity in run.capacities for sentence in _of_capacity(run, capacity)]
    if not run.capacities:
        groups = batch_groups(run)
        named = [advice(group, limit_ms, name=group.label) for group in groups]
        found += [f"{text[0].upper()}{text[1:]}" if len(groups) == 1 else text for text in named]
    found += [
        f"{cost.option}: 1,000 requests cost {cost.currency}{number(cost.per_1000_requests)} at "
        f"{number(100 * cost.utilisation)} % of {number(cost.requests_per_s)} requests/s and "
        f"{cost.currency}{number(cost.monthly_price)} a month."
        for cost in run.costs
    ]
    return tuple(found)


def _of_capacity(run: Run, capacity: Capacity) -> list[str]:
    limit = f"P99 within {number(capacity.p99_limit_ms)} ms and failures within {100 * capacity.max_error_rate:g} %"
    if capacity.rate_per_s is None and capacity.largest_batch_size is None:
        return [f"{capacity.model}: nothing tried keeps {limit}."]
    found = []
    if capacity.rate_per_s is not None:
        bound = "" if capacity.rate_is_bound else " at least (the search ended before it met the limit)"
        said = f"{number(capacity.rate_per_s)} requests/s{bound} of one text each"
        found.append(f"{capacity.model} answers {said} with {limit}{_p99(run, capacity.rate_cell)}.")
    if capacity.largest_batch_size is not None:
        shown = _p99(run, capacity.batch_size_cell)
        found.append(f"{capacity.model}: {capacity.largest_batch_size} is the largest batch size with {limit}{shown}.")
    return found


def _p99(run: Run, cell_id: str) -> str:
    cell = cell_of(run, cell_id)
    p99 = cell.client.latency_ms.get("p99") if cell is not None else None
    return f": P99 {with_interval(p99)} ms" if p99 is not None else ""


def remarks(cells: Sequence[CellResult], *, reasons: bool = True) -> list[tuple[str, list[str]]]:
    """What is said of cells beside their numbers: each text once, with the ids of the cells that it is said of.

    Texts that differ in numbers only count as one, told with the numbers of the first cell.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for cell in cells:
        for text in (*(cell.reasons if reasons else ()), *cell.warnings):
            found.setdefault(_NUMBERS.sub("#", text), []).append((text, cell.spec.id))
    return [(_merged([text for text, _ in said]), [cell_id for _, cell_id in said]) for said in found.values()]


def _merged(texts: Sequence[str]) -> str:
    """One text for several that differ in numbers only."""
    others = sum(text != texts[0] for text in texts)
    return texts[0] if not others else f"{texts[0]} (the numbers are those of the first of these {len(texts)} cells)"
