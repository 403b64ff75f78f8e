"""One process's part in a cell: its users' desk, its recorder, its probes, and the window on its own clock.

Owns begin, end, cool-down and report of one process. Who says when is `loadtest.generator.clock`, in the same process
or, by messages, in another one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import gevent
from locust.env import Environment

from loadtest.access import Access
from loadtest.cell import CellSpec
from loadtest.generator.desk import Desk
from loadtest.generator.health import LoopProbe, cpu_s
from loadtest.generator.recorder import Recorder, Window
from loadtest.generator.report import Report
from loadtest.generator.turns import take_turns
from loadtest.generator.users import USER_CLASSES
from loadtest.target import Target

GRACE_S = 1.0  # beyond a call's time-out: by then its failure must have been noted
INTERRUPTED_COOL_DOWN_S = 3.0
DRAIN_S = 5.0
TICK_S = 0.01


class Station:
    """The users of one process, from the first call to the report.

    Attributes:
        desk: what the users share.
        recorder: their calls.
    """

    def __init__(
        self,
        spec: CellSpec,
        target: Target,
        access: Access,
        environment: Environment,
        *,
        process_index: int = 0,
        processes: int = 1,
    ) -> None:
        """Prepares everything but the users, which Locust spawns.

        Raises:
            UsageError: see `Desk`.
        """
        self.recorder = Recorder()
        self.desk = Desk(
            spec,
            target,
            access,
            self.recorder,
            environment.events.request.fire,
            process_index=process_index,
            processes=processes,
        )
        self._spec = spec
        self._probe = LoopProbe()
        self._begin_s = self._end_s = 0.0
        self._cpu_begin_s = self._cpu_end_s = 0.0
        environment.events.user_error.add_listener(self._user_broke)
        USER_CLASSES[spec.protocol].desk = self.desk
        take_turns()
        gc.collect()
        gc.freeze()  # what is there by now stays: no need to look through it again and again

    def begin(self) -> None:
        """The window begins now."""
        self.desk.kept.keeping = True
        self._cpu_begin_s = cpu_s()
        self._begin_s = time.perf_counter()

    def end(self) -> None:
        """The window ends now; the load goes on."""
        self._end_s = time.perf_counter()
        self._cpu_end_s = cpu_s()
        self.desk.kept.keeping = False

    @property
    def window(self) -> Window:
        """Between `begin` and `end`."""
        return Window(self._begin_s, self._end_s)

    def cool_down(self, *, interrupted: bool = False) -> Report:
        """Waits, under the same load, for the window's calls, then lets the users finish; what they measured."""
        limit_s = self._spec.timeout_s + GRACE_S
        _wait_for_none(self._under_way_of_window, min(limit_s, INTERRUPTED_COOL_DOWN_S) if interrupted else limit_s)
        report = self._report()
        self.desk.closed = True
        _wait_for_none(self.recorder.under_way, 0.0 if interrupted else min(limit_s, DRAIN_S))
        return report

    def close(self) -> None:
        """Ends what the station runs beside the users."""
        self.desk.closed = True
        self._probe.close()

    def _under_way_of_window(self) -> int:
        return self.recorder.under_way(self.window)

    def _report(self) -> Report:
        window, recorder = self.window, self.recorder
        samples, unfinished = recorder.samples(window, time.perf_counter())
        return Report(
            samples=samples,
            duration_s=window.duration_s,
            cpu_s=self._cpu_end_s - self._cpu_begin_s,
            loop_lags_s=self._probe.lags_s(window),
            send_lags_s=recorder.send_lags_s(window),
            missed_sends=recorder.missed_sends(window),
            unfinished=unfinished,
            mean_request_bytes=recorder.mean_request_bytes(window),
            failure_examples=dict(recorder.failure_examples),
            length_counts=dict(self.desk.payloads.length_counts),
        )

    def _user_broke(self, exception: Exception, **_event: object) -> None:
        self.desk.broken = repr(exception)


def _wait_for_none(count: Callable[[], int], limit_s: float) -> None:
    deadline_s = time.perf_counter() + limit_s
    while count() and time.perf_counter() < deadline_s:
        gevent.sleep(TICK_S)
