"""Locust users that ask Triton: `GrpcUser` and `HttpUser`, alike but for the protocol.

Owns when a user asks. Closed workload: every user has one connection and asks again as soon as it is answered,
without a pause, but for `PAUSE_AFTER_LOST_S` after a call that found no server, so that users of a dead server do not
spin. Open workload: one user per process sends the process's share of the arrivals, each at its time, whatever became
of the others.
"""

from __future__ import annotations

import time
from typing import ClassVar

import gevent
from gevent.hub import get_hub
from locust import User, task
from locust.exception import StopUser

from loadtest.cell import CLOSED
from loadtest.generator.alarm import Alarm
from loadtest.generator.arrivals import arrival_times, seed_of
from loadtest.generator.desk import Desk
from loadtest.generator.recorder import Recorder
from loadtest.generator.turns import Turn
from loadtest.wire import Request

PAUSE_AFTER_LOST_S = 0.05
LOST = frozenset({"ServerUnreachableError", "WrongProtocolError"})
ROUND_S = 0.1  # a task is that long: Locust's way from task to task costs as much as a short call
MAX_OUTSTANDING = 1000


class TritonUser(User):
    """A user with one connection; ``desk`` is set on the class before users are spawned."""

    abstract = True
    desk: ClassVar[Desk | None] = None

    def on_start(self) -> None:
        """Connects, with a first call that makes this user count as up."""
        if self.desk is None or self.desk.closed:
            raise StopUser
        self._desk = self.desk
        self._caller = self._desk.caller()
        self._pause_if_lost(self._caller.call(self._desk.payloads.next()))
        self._desk.users_up += 1

    def on_stop(self) -> None:
        """Ends the connection."""
        if hasattr(self, "_caller"):
            self._caller.close()

    @task
    def ask(self) -> None:
        """Asks for a tenth of a second, or (open workload) until the desk closes."""
        if self._desk.spec.workload.kind == CLOSED:
            self._ask_again_and_again()
        else:
            Arrivals(self._desk).send_all()
        if self._desk.closed:
            raise StopUser

    def _ask_again_and_again(self) -> None:
        desk, caller, next_request = self._desk, self._caller, self._desk.payloads.next
        turn = Turn()
        until_s = time.perf_counter() + ROUND_S
        while not desk.closed and time.perf_counter() < until_s:
            self._pause_if_lost(caller.call(next_request()))
            turn.over()

    def _pause_if_lost(self, failure: str | None) -> None:
        if failure in LOST:
            gevent.sleep(PAUSE_AFTER_LOST_S)


class GrpcUser(TritonUser):
    """Asks over gRPC."""


class HttpUser(TritonUser):
    """Asks over HTTP."""


USER_CLASSES: dict[str, type[TritonUser]] = {"gRPC": GrpcUser, "HTTP": HttpUser}


class Arrivals:
    """Sends a process's share of an open workload, from as many senders, each with a connection, as it takes."""

    def __init__(self, desk: Desk, *, max_outstanding: int = MAX_OUTSTANDING) -> None:
        """Takes the rate from the desk's cell.

        Args:
            desk: of the process.
            max_outstanding: requests under way beyond which an arrival is not sent, but noted as missed.
        """
        self._desk = desk
        self._max_outstanding = max_outstanding
        self._idle: list[_Sender] = []
        self._senders: list[_Sender] = []

    def send_all(self) -> None:
        """Sends every arrival at its time until the desk closes."""
        desk = self._desk
        rate_per_s = (desk.spec.workload.rate_per_s or 0.0) / desk.processes
        seed = seed_of(desk.spec.id, desk.spec.texts.seed, desk.process_index)
        alarm = Alarm()
        start_s = time.perf_counter()
        try:
            for time_s in arrival_times(rate_per_s, seed=seed):
                request = desk.payloads.next()
                if not self._wait_until(alarm, start_s + time_s):
                    break
                self._send(request, start_s + time_s)
            while len(self._idle) < len(self._senders):  # each call ends within its time-out
                gevent.sleep(0.01)
        finally:
            alarm.close()
            gevent.killall([sender.greenlet for sender in self._senders], block=False)

    def _wait_until(self, alarm: Alarm, moment_s: float) -> bool:
        """Sleeps until then, or until the desk closes, of which False tells."""
        while not self._desk.closed:
            nap_until_s = min(moment_s, time.perf_counter() + ROUND_S)
            alarm.sleep_until(nap_until_s)
            if nap_until_s == moment_s:
                return True
        return False

    def _send(self, request: Request, intended_s: float) -> None:
        if self._idle:
            self._idle.pop().wake(request, intended_s)
        elif len(self._senders) < self._max_outstanding:
            self._senders.append(_Sender(self._desk, self._idle, request, intended_s))
        elif isinstance(self._desk.log, Recorder):
            self._desk.log.missed(intended_s)


class _Sender:
    """A greenlet with a connection: sends one request, then waits among the idle for the next."""

    def __init__(self, desk: Desk, idle: list[_Sender], request: Request, intended_s: float) -> None:
        self._desk = desk
        self._idle = idle
        self.greenlet = gevent.spawn(self._run, request, intended_s)
        self.greenlet.link_exception(self._broke)

    def wake(self, request: Request, intended_s: float) -> None:
        """Hands over the next request."""
        get_hub().loop.run_callback(self.greenlet.switch, (request, intended_s))

    def _run(self, request: Request, intended_s: float) -> None:
        caller = self._desk.caller()
        try:
            while True:
                caller.call(request, intended_s)
                self._idle.append(self)
                request, intended_s = get_hub().switch()
        finally:
            caller.close()

    def _broke(self, greenlet: gevent.Greenlet) -> None:
        self._desk.broken = repr(greenlet.exception)
