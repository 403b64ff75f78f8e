"""A crew of several processes: Locust's `MasterRunner` here, its workers on this machine or on others.

Owns the master's half of `loadtest.generator.messages` and the worker processes that it starts. A cell is never
silently smaller: a worker that dies, falls silent or cannot prepare ends the cell with an error that names it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from locust import runners
from locust.env import Environment
from locust.exception import RPCError
from locust.rpc import Message

from loadtest.access import Access
from loadtest.errors import GeneratorError, UsageError
from loadtest.generator import messages
from loadtest.generator.clock import Progress
from loadtest.generator.health import cpu_s
from loadtest.generator.local import SPAWN_RATE_PER_S, user_count, users_limit_s
from loadtest.generator.outcome import Job
from loadtest.generator.report import Report
from loadtest.generator.station import DRAIN_S, GRACE_S, TICK_S
from loadtest.generator.users import USER_CLASSES

LOCAL_START_S = 60.0
SILENT_S = 10  # seconds without a heartbeat after which a worker is given up
MESSAGE_S = 30.0  # for a message to arrive, samples included

Contents = dict[str, Any]


class Master(runners.MasterRunner):
    """Locust's, but the workers of a cell are chosen once: whoever connects later waits for the next cell."""

    members: tuple[str, ...] | None = None

    def handle_message(self, client_id: str, msg: Message) -> None:
        """Ignores those who are not of this cell: Locust would spread the users anew, in the middle of a window."""
        if self.members is None or client_id in self.members:
            super().handle_message(client_id, msg)

    def choose(self, count: int) -> None:
        """The first ``count`` workers are those of the cell."""
        self.members = tuple(self.clients)[:count]
        for client_id in tuple(self.clients)[count:]:
            del self.clients[client_id]


class MasterCrew:
    """A `loadtest.generator.clock.Crew` of several processes."""

    def __init__(self, job: Job, access: Access) -> None:
        """Listens, and starts the workers of this machine.

        Raises:
            GeneratorError: the port is taken.
        """
        self._job = job
        self._access = access
        self._inbox: dict[str, dict[str, list[Contents]]] = defaultdict(lambda: defaultdict(list))
        self._children: list[subprocess.Popen[bytes]] = []
        self._cpu_begin_s = self._cpu_end_s = 0.0
        runners.HEARTBEAT_LIVENESS = SILENT_S  # Locust's 3 s are too few for a machine at its limit
        environment = Environment(user_classes=[USER_CLASSES[job.spec.protocol]])
        self._runner = _bind(environment, job)
        for name in messages.FROM_WORKERS:
            self._runner.register_message(name, self._receive)
        self._spawned = Event()
        environment.events.spawning_complete.add_listener(lambda **_: self._spawned.set())
        if job.distributed is None:
            self._children = [_start_worker(self._runner.server.port) for _ in range(job.processes)]

    def start(self, interrupted: Event) -> None:
        """See `Crew`."""
        self._wait_for_workers(interrupted)
        if interrupted.is_set():
            return
        self._runner.choose(self._job.processes)
        for index, client_id in enumerate(self._members):
            self._runner.send_message(messages.CELL, messages.cell(self._job, self._access, index), client_id)
        self._wait_for(messages.READY, LOCAL_START_S, interrupted)
        if interrupted.is_set():
            return
        users = user_count(self._job.spec, self._job.processes)
        self._runner.start(users, min(users, SPAWN_RATE_PER_S * self._job.processes))
        self._wait_for(messages.UP, users_limit_s(self._job.spec, self._job.processes) + MESSAGE_S, interrupted)
        if not interrupted.is_set():
            self._check_users(users)

    def begin(self) -> None:
        """See `Crew`."""
        self._cpu_begin_s = cpu_s()
        self._runner.send_message(messages.BEGIN)

    def progress(self) -> Progress:
        """See `Crew`."""
        self._check()
        latest = [contents[-1] for contents in self._inbox[messages.PROGRESS].values()]
        return Progress(sum(each["answered"] for each in latest), sum(each["failed"] for each in latest))

    def end(self) -> None:
        """See `Crew`."""
        self._cpu_end_s = cpu_s()

    def reports(self, *, interrupted: bool) -> list[Report]:
        """See `Crew`."""
        self._runner.send_message(messages.END, {"interrupted": interrupted})
        self._wait_for(messages.REPORT, self._job.spec.timeout_s + GRACE_S + DRAIN_S + MESSAGE_S)
        rests, samples = self._inbox[messages.REPORT], self._inbox[messages.SAMPLES]
        return [messages.whole(rests[client_id][0], samples[client_id]) for client_id in self._members]

    def reask(self) -> tuple[int, int]:
        """See `Crew`."""
        reasked = changed = 0
        for client_id in self._members:
            self._runner.send_message(messages.REASK, None, client_id)
            self._wait_for(messages.REASKED, MESSAGE_S, of=(client_id,))
            answer = self._inbox[messages.REASKED][client_id][0]
            reasked, changed = reasked + answer["reasked"], changed + answer["changed"]
        return reasked, changed

    def other_cpu_s(self) -> float:
        """See `Crew`."""
        return self._cpu_end_s - self._cpu_begin_s

    def close(self) -> None:
        """Ends users, workers of this machine and greenlets."""
        self._runner.members = None
        self._runner.quit()
        for child in self._children:
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:  # noqa: PERF203
                child.kill()
                child.wait()

    @property
    def _members(self) -> tuple[str, ...]:
        return self._runner.members or ()

    def _receive(self, msg: Message, **_event: object) -> None:
        self._inbox[msg.type][msg.node_id].append(msg.data)

    def _wait_for_workers(self, interrupted: Event) -> None:
        limit_s = self._job.distributed.wait_s if self._job.distributed else LOCAL_START_S

        def missing() -> str:
            there = len(self._runner.clients.ready)
            return "" if there >= self._job.processes else f"{there} of {self._job.processes} workers connected"

        self._wait_until(missing, limit_s, interrupted)

    def _wait_for(
        self, message: str, limit_s: float, interrupted: Event | None = None, of: tuple[str, ...] | None = None
    ) -> None:
        def missing() -> str:
            silent = [client_id for client_id in of or self._members if client_id not in self._inbox[message]]
            return f"no {message!r} from {', '.join(silent)}" if silent else ""

        self._wait_until(missing, limit_s, interrupted)

    def _wait_until(self, missing: Callable[[], str], limit_s: float, interrupted: Event | None) -> None:
        deadline_s = time.perf_counter() + limit_s
        while what := missing():
            self._check()
            if interrupted is not None and interrupted.is_set():
                return
            if time.perf_counter() > deadline_s:
                raise GeneratorError(f"{what} within {limit_s:.0f} s")
            gevent.sleep(TICK_S)

    def _check(self) -> None:
        for client_id, contents in self._inbox[messages.BROKEN].items():
            kind = UsageError if contents[0]["kind"] == "UsageError" else GeneratorError
            raise kind(f"worker {client_id}: {contents[0]['message']}")
        for child in self._children:
            if child.poll() is not None:
                raise GeneratorError(
                    f"worker process {child.pid} ended in the middle of the cell (status {child.returncode})"
                )
        for client_id in self._members:
            client = self._runner.clients.get(client_id)
            if client is None or client.state == runners.STATE_MISSING:
                raise GeneratorError(f"worker {client_id} left in the middle of the cell, and its users with it")

    def _check_users(self, wanted: int) -> None:
        there = sum(contents[0]["users"] for contents in self._inbox[messages.UP].values())
        if there != wanted:
            raise GeneratorError(f"{there} users came up on the workers, expected {wanted}")


def _bind(environment: Environment, job: Job) -> Master:
    host, port = "127.0.0.1", 0
    if job.distributed is not None:
        host, port = job.distributed.bind_host, job.distributed.bind_port
    try:
        runner = Master(environment, host, port)
    except (SystemExit, RPCError) as exc:
        raise GeneratorError(f"cannot listen for workers on {host}:{port}: {exc}; give another address") from exc
    environment.runner = runner
    return runner


def _start_worker(port: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "loadtest.generator",
        "--master",
        f"127.0.0.1:{port}",
        "--once",
        "--end-with-parent",
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
