"""The usual crew: all users in this process, run by Locust's `LocalRunner`."""

from __future__ import annotations

import time

import gevent
from gevent.event import Event
from locust.env import Environment

from loadtest.access import Access
from loadtest.cell import CellSpec
from loadtest.errors import GeneratorError
from loadtest.generator.clock import Progress
from loadtest.generator.outcome import Job
from loadtest.generator.report import Report
from loadtest.generator.station import GRACE_S, TICK_S, Station
from loadtest.generator.users import USER_CLASSES

SPAWN_RATE_PER_S = 100.0  # more a second is more than Locust promises


def user_count(spec: CellSpec, processes: int) -> int:
    """Locust users of a cell: those of a closed workload, or one a process that sends arrivals."""
    return spec.workload.users if spec.workload.users is not None else processes


def users_limit_s(spec: CellSpec, processes: int) -> float:
    """How long it may take until every user is up: spawning, then a first call each."""
    return user_count(spec, processes) / SPAWN_RATE_PER_S + spec.timeout_s + GRACE_S


class LocalCrew:
    """A `loadtest.generator.clock.Crew` of one process."""

    def __init__(self, job: Job, access: Access) -> None:
        """Prepares the users; nothing is sent.

        Raises:
            UsageError: texts, batch size or URL that cannot be.
        """
        self._spec = spec = job.spec
        self._environment = Environment(user_classes=[USER_CLASSES[spec.protocol]])
        self._station = Station(spec, job.target, access, self._environment)
        self._runner = self._environment.create_local_runner()
        self._spawned = Event()
        self._environment.events.spawning_complete.add_listener(lambda **_: self._spawned.set())
        self._before = Progress(0, 0)

    def start(self, interrupted: Event) -> None:
        """See `Crew`."""
        users = user_count(self._spec, 1)
        self._runner.start(users, min(users, SPAWN_RATE_PER_S))
        deadline_s = time.perf_counter() + users_limit_s(self._spec, 1)
        while not (self._spawned.is_set() and self._station.desk.users_up >= users):
            self._check()
            if interrupted.is_set():
                return
            if time.perf_counter() > deadline_s:
                raise GeneratorError(f"only {self._station.desk.users_up} of {users} users came up in time")
            gevent.sleep(TICK_S)

    def begin(self) -> None:
        """See `Crew`."""
        self._before = self._so_far()
        self._station.begin()

    def progress(self) -> Progress:
        """See `Crew`."""
        self._check()
        now = self._so_far()
        return Progress(now.answered - self._before.answered, now.failed - self._before.failed)

    def end(self) -> None:
        """See `Crew`."""
        self._station.end()

    def reports(self, *, interrupted: bool) -> list[Report]:
        """See `Crew`."""
        report = self._station.cool_down(interrupted=interrupted)
        self._check()
        self._runner.stop()
        return [report]

    def reask(self) -> tuple[int, int]:
        """See `Crew`."""
        return self._station.desk.reask()

    def other_cpu_s(self) -> float:
        """See `Crew`."""
        return 0.0

    def close(self) -> None:
        """Ends users and greenlets."""
        self._station.close()
        self._runner.quit()

    def _so_far(self) -> Progress:
        return Progress(self._station.recorder.answered, self._station.recorder.failed)

    def _check(self) -> None:
        if self._station.desk.broken:
            raise GeneratorError(f"a user broke: {self._station.desk.broken}")
