"""Steps one after another, how long they will take, and what is left of them when one breaks.

Owns the arithmetic and the isolation of steps; what a step does is its command's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.cell import CellSpec
from loadtest.errors import LoadTestError
from loadtest.progress import OVERHEAD_S, duration_text

if TYPE_CHECKING:
    from loadtest.campaign import Finding
    from loadtest.results import RunFolder


@dataclass(frozen=True)
class Step:
    """One thing to do in a run folder.

    Attributes:
        name: in a word.
        what: what it does, for people.
        work: does it.
        specs: the cells that it measures, so far as they are known beforehand.
        more_cells: cells like the first that it may measure besides, at most.
    """

    name: str
    what: str
    work: Callable[[RunFolder], Finding]
    specs: tuple[CellSpec, ...] = ()
    more_cells: int = 0

    @property
    def least_s(self) -> float:
        """Seconds if every cell's least duration suffices and there are no more cells than are known."""
        return sum(spec.warm_up_s + spec.duration_s + OVERHEAD_S for spec in self.specs)

    def most_s(self, more: CellSpec) -> float:
        """Seconds if every cell known takes its most, and `more_cells` like ``more`` come to their least each.

        (More cells are those of a search for a rate: many short requests, so that the least duration suffices.)
        """
        known = sum(spec.warm_up_s + spec.max_duration_s + OVERHEAD_S for spec in self.specs)
        return known + self.more_cells * (more.warm_up_s + more.duration_s + OVERHEAD_S)


def describe(steps: Sequence[Step], more: CellSpec) -> str:
    """The steps as a Markdown table, with their times; ``more`` is as in `Step.most_s`."""
    lines = ["| step | what | cells | at least | at most |", "|---|---|---|---|---|"]
    for step in steps:
        cells = f"{len(step.specs)}" + (f" + up to {step.more_cells}" if step.more_cells else "")
        most = step.most_s(more)
        times = f"{duration_text(step.least_s)} | {duration_text(most)}" if most else "- | -"
        lines.append(f"| {step.name} | {step.what} | {cells if most else '-'} | {times} |")
    least, most = sum(step.least_s for step in steps), sum(step.most_s(more) for step in steps)
    lines.append(
        f"| all | accuracy takes the time that the texts take | | {duration_text(least)} | {duration_text(most)} |"
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Outcome:
    """What came of all steps.

    Attributes:
        finding: ok if every step was; what each said.
        broken: the names of steps that could not be done.
    """

    finding: Finding
    broken: tuple[str, ...]


def carry_out(steps: Sequence[Step], folder: RunFolder, say: Callable[[str], None]) -> Outcome:
    """Does the steps in order; one that breaks does not lose the others.

    Args:
        steps: what to do.
        folder: where.
        say: told when a step begins.

    Raises:
        SweepStoppedError: Ctrl-C, or the server is gone: no use going on.
    """
    from loadtest.campaign import Finding

    ok, lines, broken = True, list[str](), list[str]()
    for number, step in enumerate(steps, start=1):
        say(f"step {number} of {len(steps)}: {step.name}: {step.what}")
        found = _attempt(step, folder)
        if isinstance(found, Finding):
            ok = ok and found.ok
            lines += found.lines
        else:
            broken.append(step.name)
            lines.append(f"Step {step.name} was not done: {found}")
    return Outcome(Finding(ok and not broken, tuple(lines)), tuple(broken))


def _attempt(step: Step, folder: RunFolder) -> Finding | LoadTestError:
    from loadtest.sweep import SweepStoppedError

    try:
        return step.work(folder)
    except SweepStoppedError:
        raise
    except LoadTestError as exc:
        return exc
