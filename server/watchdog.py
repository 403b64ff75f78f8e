"""Keeps a server running: notices what died, restarts it within bounds, and ends it when asked.

Triton does not notice the death of a backend process (triton_python_backend_stub): its health endpoints stay
green while every request to that model fails. It does not reap it either, so the dead process stays a zombie child of
tritonserver; one that Triton ends itself (a model unloaded, a config completed) is reaped within milliseconds. On a
process that hangs Triton gives up after a second, for good; the text model that called it says so in the log. What else
hangs, `server.hangs` finds out.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

from server.control.unix_socket import Control, Handler
from server.errors import ControlError, ServerError, StartCancelledError
from server.hangs import HANG_TIMEOUT_S, HangWatch
from server.installation import STUB
from server.launcher import KILL_MARGIN_S, START_TIMEOUT_S, TritonServer
from server.log import describe_exit
from server.readiness import ModelState

WATCH_INTERVAL_S = 0.5
ZOMBIE_SIGHTINGS = 3  # in a row,
ZOMBIE_S = 1.0  # over this long, however often somebody looks; so a death is noticed after 1 to 1.5 s
SAME_REQUEST_S = 1.0  # Ctrl-C reaches a shell's whole job, and a parent may pass it on: one wish, several signals
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class RestartPolicy:
    """How often a server is restarted.

    Attributes:
        max_restarts: in ``window_s``; 0 means end instead.
        window_s: restarts longer ago than this are forgotten.
        first_delay_s: before the second restart in a window, doubled for each further one. The first is at once.
        max_delay_s: the longest delay.
    """

    max_restarts: int = 5
    window_s: float = 600.0
    first_delay_s: float = 1.0
    max_delay_s: float = 30.0

    def delay_s(self, recent: int) -> float:
        """Seconds to wait when ``recent`` restarts lie in the window."""
        return 0.0 if recent == 0 else float(min(self.first_delay_s * 2 ** (recent - 1), self.max_delay_s))


@dataclass
class Restarts:
    """Counts restarts against a policy."""

    policy: RestartPolicy
    clock: Callable[[], float] = time.monotonic
    _times: deque[float] = field(default_factory=deque)

    def allow(self) -> float | None:
        """Seconds to wait before the restart that is wanted now; None when there were too many."""
        now = self.clock()
        while self._times and now - self._times[0] > self.policy.window_s:
            self._times.popleft()
        if len(self._times) >= self.policy.max_restarts:
            return None
        self._times.append(now)
        return self.policy.delay_s(len(self._times) - 1)


class Watch:
    """Looks at one tritonserver process and its children.

    Args:
        server: the server to look at; after a restart the new process is followed.
        clock: in seconds.
        hang_timeout_s: how long something may be asked and do nothing; 0 = for ever.
    """

    def __init__(
        self, server: TritonServer, clock: Callable[[], float] = time.monotonic, hang_timeout_s: float = 0.0
    ) -> None:
        self._server = server
        self._clock = clock
        self._sightings: dict[tuple[int, int], list[float]] = {}
        self._hang_timeout_s = hang_timeout_s
        self._hangs: HangWatch | None = None
        self._followed: int | None = None  # by that

    def close(self) -> None:
        """Ends the thread that looks for what hangs."""
        if self._hangs is not None:
            self._hangs.close()

    def fault(self) -> str | None:
        """What died or hangs, in words; None while all is well. To be called every `WATCH_INTERVAL_S`."""
        if not self._server.running:
            return f"tritonserver ended ({describe_exit(self._server.returncode)})"
        triton, now = self._server.pid, self._clock()
        dead = {(triton, pid) for pid in zombie_backends(triton)}
        self._sightings = {key: [*self._sightings.get(key, []), now] for key in dead}
        for (_, pid), times_s in self._sightings.items():
            if len(times_s) >= ZOMBIE_SIGHTINGS and times_s[-1] - times_s[0] >= ZOMBIE_S:
                return f"backend process {pid} of Triton died"
        if self._server.unhealthy:
            return f"backend process {self._server.unhealthy} of Triton does not answer"
        return self._hang(triton)

    def _hang(self, triton: int) -> str | None:
        if not self._hang_timeout_s or not self._server.serves("metrics"):
            return None
        if self._hangs is None or self._followed != triton:
            self.close()
            self._followed, self._hangs = triton, HangWatch(self._server, self._hang_timeout_s)
        return self._hangs.fault


def zombie_backends(triton_pid: int) -> list[int]:
    """Process ids of the dead, unreaped backend processes of a tritonserver."""
    try:
        children = psutil.Process(triton_pid).children()
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children if _is_zombie_backend(child)]


def _is_zombie_backend(child: psutil.Process) -> bool:
    try:
        # Linux cuts names at 15 characters, and a zombie has no command line to complete it from.
        return child.status() == psutil.STATUS_ZOMBIE and STUB.startswith(child.name())
    except psutil.NoSuchProcess:
        return False


class StopSignals:
    """SIGTERM, SIGINT and SIGHUP, counted; the main thread sleeps in `wait`."""

    def __init__(self) -> None:
        self.count = 0
        self._wakeup, self._woken = socket.socketpair()
        self._wakeup.setblocking(False)
        self._woken.setblocking(False)

    @contextlib.contextmanager
    def installed(self) -> Iterator[StopSignals]:
        """Handles the signals while inside."""
        old_wakeup = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        # What is ignored stays ignored: nohup ignores SIGHUP, a shell's background job SIGINT.
        handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        old = {number: signal.signal(number, self._count) for number in handled}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            self._wakeup.close()
            self._woken.close()

    def _count(self, *_: object) -> None:
        self.count += 1

    def wait(self, timeout_s: float, *others: Control) -> int:
        """Sleeps until a signal, the timeout, or something in ``others``; returns how many signals have come so far."""
        readable: list[socket.socket | Control] = [self._woken, *others]
        ready, _, _ = select.select(readable, [], [], timeout_s)
        if self._woken in ready:
            self._woken.recv(4096)
        return self.count


def _refuse(order: Mapping[str, Any]) -> list[str]:
    raise ControlError(f"this server takes no orders, received {dict(order)}")


@dataclass
class Supervisor:
    """Runs one server until it is asked to stop or cannot be kept up.

    Args:
        server: not yet started.
        signals: asks to stop.
        on_ready: called after every successful start.
        say: takes a log line.
        restart_on_death: restart the server when something died or hangs, rather than end.
        policy: how often.
        start_timeout_s: for the first start and for each restart.
        hang_timeout_s: how long something may be asked and do nothing; 0 = for ever.
        before_start: called before the first start and before each restart; what it raises prevents that.
        control: where orders come in.
        handler: carries them out.
    """

    server: TritonServer
    signals: StopSignals
    on_ready: Callable[[list[ModelState]], None]
    say: Callable[[str], None]
    restart_on_death: bool = True
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    start_timeout_s: float = START_TIMEOUT_S
    hang_timeout_s: float = HANG_TIMEOUT_S
    before_start: Callable[[], None] | None = None
    control: Control | None = None
    handler: Handler = _refuse

    def run(self) -> int:
        """Returns the exit code: 0 when asked to stop, 1 when something died or hangs and was not restarted.

        Raises:
            ServerError: the first start failed.
        """
        try:
            return self._run()
        except StartCancelledError:
            return 0
        finally:
            self.server.kill()

    def _run(self) -> int:
        if self.before_start:
            self.before_start()
        self.on_ready(self.server.start(self.start_timeout_s, cancelled=self._asked_to_stop))
        with contextlib.closing(Watch(self.server, hang_timeout_s=self.hang_timeout_s)) as watch:
            given_up = self._given_up(watch)
        return 1 if given_up else self._drain()

    def _given_up(self, watch: Watch) -> bool:
        """Keeps the server running; returns when asked to stop (False) or when something stays wrong (True)."""
        restarts = Restarts(self.policy)
        others = [self.control] if self.control else []
        while not self.signals.wait(WATCH_INTERVAL_S, *others):
            if self.control:
                self.control.answer(self.handler)
            fault = watch.fault()
            while fault is not None:
                if not self.restart_on_death:
                    self.say(f"{fault}; ending, as --on-backend-death exit says")
                    return True
                delay_s = restarts.allow()
                if delay_s is None:
                    bound = f"{self.policy.max_restarts} restarts in {self.policy.window_s:g} s"
                    self.say(f"{fault}; ending, since --max-restarts allows {bound}")
                    return True
                self.say(f"{fault}; restarting the server" + (f" in {delay_s:g} s" if delay_s else ""))
                fault = self._restart(delay_s)
        return False

    def _restart(self, delay_s: float) -> str | None:
        """Restarts after a pause; returns what went wrong."""
        self.server.end_processes()  # at once: it answers some requests wrongly, and SIGTERM would take its full time
        if self.signals.wait(delay_s):
            raise StartCancelledError("asked to stop")
        started = time.monotonic()
        try:
            if self.before_start:
                self.before_start()
            states = self.server.restart(self.start_timeout_s, cancelled=self._asked_to_stop)
        except StartCancelledError:
            raise
        except ServerError as exc:
            return f"the restart failed: {exc.message}"
        self.say(f"serving again after {time.monotonic() - started:.1f} s")
        self.on_ready(states)
        return None

    def _drain(self) -> int:
        limit_s = self.server.exit_timeout_s
        self.say(f"stopping: requests in flight get up to {limit_s} s (--exit-timeout-s); a second signal kills")
        self.server.terminate()
        asked = self.signals.count
        started = time.monotonic()
        deadline = started + limit_s + KILL_MARGIN_S
        while self.server.running:
            count = self.signals.wait(0.1)
            if time.monotonic() - started < SAME_REQUEST_S:
                asked = count
            if count > asked:
                self.say("killed by a second signal; requests in flight were cut off")
                return 1
            if time.monotonic() > deadline:
                self.say(f"Triton did not end within {limit_s} s and was killed")
                return 1
        if (self.server.returncode or 0) < 0:
            self.say(f"Triton crashed while stopping ({describe_exit(self.server.returncode)})")
            return 1
        return 0

    def _asked_to_stop(self) -> bool:
        return self.signals.count > 0
