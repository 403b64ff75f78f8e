"""When the watchdog speaks up, how often it restarts, and which signals it takes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from server import watchdog
from server.watchdog import ZOMBIE_SIGHTINGS, RestartPolicy, Restarts, StopSignals, Watch


class FakeServer:
    """What `Watch` asks a TritonServer."""

    def __init__(self) -> None:
        self.pid = 1
        self.running = True
        self.returncode: int | None = None
        self.unhealthy = ""


class Clock:
    """Every look at it is half a second later, as the supervisor looks."""

    def __init__(self, step_s: float = watchdog.WATCH_INTERVAL_S) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def zombies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(watchdog, "zombie_backends", lambda pid: list(found))
    return found


def test_a_dead_backend_process_is_noticed_after_several_sightings(zombies: list[int]) -> None:
    watch = Watch(FakeServer(), Clock())  # type: ignore[arg-type]
    assert watch.fault() is None
    zombies.append(7)
    faults = [watch.fault() for _ in range(ZOMBIE_SIGHTINGS)]
    assert faults == [None] * (ZOMBIE_SIGHTINGS - 1) + ["backend process 7 of Triton died"]


def test_looking_often_is_not_seeing_for_long(zombies: list[int]) -> None:
    """Orders through the control socket wake the supervisor; Triton reaps what they end within a moment."""
    watch = Watch(FakeServer(), Clock(step_s=0.01))  # type: ignore[arg-type]
    zombies.append(7)
    assert [watch.fault() for _ in range(50)] == [None] * 50


def test_a_backend_process_that_triton_reaps_is_none_of_our_business(zombies: list[int]) -> None:
    watch = Watch(FakeServer(), Clock())  # type: ignore[arg-type]
    for pid in range(20):  # each is seen once or twice between its end and waitpid
        zombies[:] = [pid // 2]
        assert watch.fault() is None


def test_sightings_of_an_earlier_process_do_not_count(zombies: list[int]) -> None:
    server = FakeServer()
    watch = Watch(server, Clock())  # type: ignore[arg-type]
    zombies.append(7)
    for _ in range(ZOMBIE_SIGHTINGS - 1):
        watch.fault()
    server.pid = 2
    assert watch.fault() is None


def test_a_process_that_triton_gave_up_on_is_a_fault(zombies: list[int]) -> None:
    server = FakeServer()
    watch = Watch(server, Clock())  # type: ignore[arg-type]
    assert watch.fault() is None
    server.unhealthy = "sentiment_int8_0_1"
    assert watch.fault() == "backend process sentiment_int8_0_1 of Triton does not answer"


def test_the_end_of_tritonserver_is_a_fault() -> None:
    server = FakeServer()
    server.running, server.returncode = False, -9
    assert Watch(server).fault() == "tritonserver ended (killed by SIGKILL)"  # type: ignore[arg-type]


def test_restarts_are_bounded_in_a_window_and_back_off() -> None:
    now = [0.0]
    restarts = Restarts(RestartPolicy(max_restarts=4, window_s=100, first_delay_s=1, max_delay_s=3), lambda: now[0])
    assert [restarts.allow() for _ in range(5)] == [0.0, 1.0, 2.0, 3.0, None]
    now[0] = 101.0
    assert restarts.allow() == 0.0


def test_no_restart_is_allowed_with_zero() -> None:
    assert Restarts(RestartPolicy(max_restarts=0)).allow() is None


def test_signals_are_counted_and_wake_the_sleeper() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals().installed() as signals:
        assert signals.wait(0.0) == 0
        started = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(30.0) == 1
        os.kill(os.getpid(), signal.SIGTERM)  # and not SIGHUP, which nohup ignores
        assert signals.wait(30.0) == 2
        assert time.monotonic() - started < 25  # and not at the end of a wait
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_ignored_stays_ignored() -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals().installed() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.wait(0.05) == 0
    finally:
        signal.signal(signal.SIGHUP, old)
