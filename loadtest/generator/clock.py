"""When a cell's window begins and ends, whoever makes the load.

Owns the order: users up, warm-up, window, cool-down. A `Crew` carries it out: `loadtest.generator.local` in this
process, `loadtest.generator.master` in others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from gevent.event import Event

from loadtest.cell import CellSpec
from loadtest.generator.outcome import USERS_UP, WINDOW_END, WINDOW_START, Outcome
from loadtest.generator.report import Report, combine
from loadtest.target import Target

LOOK_S = 0.05  # between looks at whether the window may end
COUNTED_LIMIT_S = 10.0  # for the server's counters to be read, before requests follow that are not of the window


class Progress(NamedTuple):
    """Calls that have ended so far."""

    answered: int
    failed: int

    @property
    def ended(self) -> int:
        """Both."""
        return self.answered + self.failed


class Crew(Protocol):
    """Those who make the load. Every method raises `GeneratorError` if some of it broke."""

    def start(self, interrupted: Event) -> None:
        """Spawns all users and waits until each has had an answer, or a failure."""

    def begin(self) -> None:
        """The window begins."""

    def progress(self) -> Progress:
        """What has ended since the window began."""

    def end(self) -> None:
        """The window ends; the load goes on."""

    def reports(self, *, interrupted: bool) -> list[Report]:
        """Cools down, stops the users; what each process measured."""

    def reask(self) -> tuple[int, int]:
        """Asks some requests again, each alone: how many were answered, how many of them differently."""

    def other_cpu_s(self) -> float:
        """CPU seconds, over the window, of processes that have no users."""


def conduct(
    spec: CellSpec,
    target: Target,
    crew: Crew,
    *,
    interrupted: Event,
    counted: Event,
    on_event: Callable[[str], None],
) -> Outcome:
    """Takes a cell from its first user to its outcome.

    Args:
        spec: the cell.
        target: who is asked.
        crew: makes the load.
        interrupted: set to end the window at once and keep what was measured.
        counted: set when the server's counters were read at the end of the window.
        on_event: told `USERS_UP`, `WINDOW_START`, `WINDOW_END`.

    Raises:
        GeneratorError: the load could not be made.
        UsageError: texts, batch size or URL that cannot be.
    """
    crew.start(interrupted)
    if not interrupted.is_set():
        on_event(USERS_UP)
    if _watched_wait(crew, interrupted, spec.warm_up_s):
        return combine(spec, target, [], interrupted=True)
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    crew.begin()
    on_event(WINDOW_START)
    _wait_for_end(spec, crew, interrupted)
    crew.end()
    on_event(WINDOW_END)
    by_hand = interrupted.is_set()
    reports = crew.reports(interrupted=by_hand)
    reasked = (0, 0)
    if not by_hand and not target.cache:  # a cache would answer, and show nothing
        counted.wait(COUNTED_LIMIT_S)
        reasked = crew.reask()
    return combine(
        spec,
        target,
        reports,
        reasked=reasked,
        other_cpu_s=crew.other_cpu_s(),
        interrupted=by_hand,
        started_at=started_at,
    )


def may_end(spec: CellSpec, elapsed_s: float, progress: Progress) -> bool:
    """Whether the window has what it is for; requests that failed have been tried too."""
    if elapsed_s >= spec.max_duration_s:
        return True
    return elapsed_s >= spec.duration_s and progress.ended >= spec.min_requests


def _wait_for_end(spec: CellSpec, crew: Crew, interrupted: Event) -> None:
    begin_s = time.perf_counter()
    while not interrupted.is_set():
        elapsed_s = time.perf_counter() - begin_s
        if may_end(spec, elapsed_s, crew.progress()):
            return
        limit_s = spec.duration_s if elapsed_s < spec.duration_s else spec.max_duration_s
        interrupted.wait(min(LOOK_S, max(0.0, limit_s - elapsed_s)))


def _watched_wait(crew: Crew, interrupted: Event, seconds: float) -> bool:
    """Waits; whether it was interrupted."""
    until_s = time.perf_counter() + seconds
    while not interrupted.is_set() and (remaining_s := until_s - time.perf_counter()) > 0:
        crew.progress()
        interrupted.wait(min(LOOK_S, remaining_s))
    return interrupted.is_set()
