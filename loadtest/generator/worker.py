"""A worker: makes its share of a master's cells, one after another, in this process.

Owns the worker's half of `loadtest.generator.messages`. Headers and tokens come over the channel and stay in memory.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import gevent
from locust import runners
from locust.env import Environment
from locust.rpc import Message

from loadtest.errors import LoadTestError
from loadtest.generator import messages
from loadtest.generator.local import users_limit_s
from loadtest.generator.station import TICK_S, Station
from loadtest.generator.users import USER_CLASSES

LOOK_FOR_MASTER_S = 0.2
SILENT_MASTER_S = 15.0
PROGRESS_INTERVAL_S = 0.1


def work(host: str, port: int, *, once: bool) -> None:
    """Waits for a master and serves its cell; then waits for the next.

    Args:
        host: of the master.
        port: of the master.
        once: end after one cell.
    """
    while True:
        _wait_for_master(host, port)
        _serve(host, port)
        if once:
            return


def _wait_for_master(host: str, port: int) -> None:
    told = False
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as exc:  # noqa: PERF203
            if not told:
                sys.stderr.write(f"loadtest: waiting for a master at {host}:{port} ({exc})\n")
                told = True
            gevent.sleep(LOOK_FOR_MASTER_S)
        else:
            return


def _serve(host: str, port: int) -> None:
    environment = Environment(user_classes=list(USER_CLASSES.values()))
    try:
        environment.runner = runner = _Runner(environment, host, port)
    except ConnectionError:
        return  # it listened, but had no use for this worker
    connected_s = time.time()
    while not runner.greenlet.join(timeout=0.5):
        if time.time() - (runner.last_heartbeat_timestamp or connected_s) > SILENT_MASTER_S:
            sys.stderr.write(f"loadtest: the master at {host}:{port} has fallen silent\n")
            runner.stop()
            runner.greenlet.kill()
    if runner.cell is not None:
        runner.cell.close()
    runner.client.close(linger=1000)


class _Runner(runners.WorkerRunner):
    """Locust's worker, which knows a cell's messages before the master knows of it: Locust drops what it does not."""

    cell: _Cell | None = None

    def connect_to_master(self) -> None:
        """As in Locust, which calls it when the worker is made, and to try again."""
        if self.cell is None:
            self.cell = _Cell(self.environment, self)
        super().connect_to_master()


class _Cell:
    """One cell in this worker; every message of the master is a method."""

    def __init__(self, environment: Environment, runner: runners.WorkerRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._station: Station | None = None
        self._processes = 1
        self._progress: gevent.Greenlet | None = None
        self._before = (0, 0)
        runner.register_message(messages.CELL, self._prepare, concurrent=True)
        runner.register_message(messages.BEGIN, self._begin)
        runner.register_message(messages.END, self._end, concurrent=True)
        runner.register_message(messages.REASK, self._reask, concurrent=True)
        environment.events.spawning_complete.add_listener(lambda **_: gevent.spawn(self._wait_for_users))

    def close(self) -> None:
        """Ends what is left of it."""
        if self._progress is not None:
            self._progress.kill()
        if self._station is not None:
            self._station.close()

    def _prepare(self, msg: Message, **_event: object) -> None:
        try:
            job, access, index = messages.read_cell(msg.data)
            self._processes = job.processes
            self._station = Station(
                job.spec, job.target, access, self._environment, process_index=index, processes=job.processes
            )
        except (LoadTestError, ValueError, TypeError, KeyError) as exc:  # also a cell of another version of loadtest
            self._send(messages.BROKEN, {"kind": type(exc).__name__, "message": str(exc)})
        else:
            self._send(messages.READY, {})

    def _wait_for_users(self) -> None:
        station = self._station
        if station is None:
            return
        while self._runner.worker_state != runners.STATE_RUNNING:  # the master does not wait for slow ones
            gevent.sleep(TICK_S)
        users = self._runner.user_count
        deadline_s = time.perf_counter() + users_limit_s(station.desk.spec, self._processes)
        while station.desk.users_up < users:
            if station.desk.broken or time.perf_counter() > deadline_s:
                what = station.desk.broken or f"only {station.desk.users_up} of {users} users came up in time"
                self._send(messages.BROKEN, {"kind": "GeneratorError", "message": what})
                return
            gevent.sleep(TICK_S)
        self._send(messages.UP, {"users": users})

    def _begin(self, **_event: object) -> None:
        if self._station is not None:
            self._before = (self._station.recorder.answered, self._station.recorder.failed)
            self._station.begin()
            self._progress = gevent.spawn(self._report_progress, self._station)

    def _report_progress(self, station: Station) -> None:
        while True:
            if station.desk.broken:
                self._send(
                    messages.BROKEN, {"kind": "GeneratorError", "message": f"a user broke: {station.desk.broken}"}
                )
                return
            answered, failed = station.recorder.answered, station.recorder.failed
            progress = {"answered": answered - self._before[0], "failed": failed - self._before[1]}
            self._send(messages.PROGRESS, progress)
            gevent.sleep(PROGRESS_INTERVAL_S)

    def _end(self, msg: Message, **_event: object) -> None:
        if self._station is None:
            return
        self._station.end()
        if self._progress is not None:
            self._progress.kill()
        report = self._station.cool_down(interrupted=msg.data["interrupted"])
        for name, content in messages.parts(report):
            self._send(name, content)

    def _reask(self, **_event: object) -> None:
        if self._station is not None:
            reasked, changed = self._station.desk.reask()
            self._send(messages.REASKED, {"reasked": reasked, "changed": changed})

    def _send(self, name: str, content: dict[str, Any]) -> None:
        self._runner.send_message(name, content)
