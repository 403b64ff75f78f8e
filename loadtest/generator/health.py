"""Whether a load-generating process keeps up: how late its event loop wakes, and how much of a core it uses.

Owns measuring it. What is too much is said by `loadtest.verdict`.
"""

from __future__ import annotations

import resource
import time
from array import array

import gevent
import numpy as np

from loadtest.generator.alarm import Alarm
from loadtest.generator.recorder import Floats, Window

PROBE_INTERVAL_S = 0.025  # each look costs the machine under test some of its time


def cpu_s() -> float:
    """CPU seconds of this process so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class LoopProbe:
    """A greenlet that sleeps 25 ms again and again, and notes by how much it woke up late."""

    def __init__(self) -> None:
        self._woken_s = array("d")
        self._lag_s = array("d")
        self._alarm = Alarm()
        self._greenlet = gevent.spawn(self._run)

    def lags_s(self, window: Window) -> Floats:
        """How late it woke inside the window."""
        woken_s = np.array(self._woken_s)
        return np.array(self._lag_s)[(woken_s >= window.begin_s) & (woken_s <= window.end_s)]

    def close(self) -> None:
        """Ends the greenlet."""
        self._greenlet.kill()
        self._alarm.close()

    def _run(self) -> None:
        while True:
            due_s = time.perf_counter() + PROBE_INTERVAL_S
            self._alarm.sleep_until(due_s)
            woken_s = time.perf_counter()
            self._woken_s.append(woken_s)
            self._lag_s.append(woken_s - due_s)
