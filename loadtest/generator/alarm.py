"""A sleep that ends when it should: gevent's own timers are up to a millisecond late, as epoll counts in milliseconds.

Owns one Linux timerfd of one greenlet. Elsewhere, and where the kernel refuses, it is `gevent.sleep`, and the
lateness shows in the cell as its send lag.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

import gevent
from gevent.hub import get_hub

CLOCK_MONOTONIC = 1  # the clock of time.perf_counter() on Linux
READ = 1
SHORTEST_S = 50e-6  # less than that is not worth a system call


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Alarm:
    """Wakes one greenlet at a time on ``time.perf_counter()``."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC) if self._libc else -1
        self._watcher = get_hub().loop.io(self._fd, READ) if self._fd >= 0 else None

    def sleep_until(self, moment_s: float) -> None:
        """Sleeps until ``moment_s``; lets every other greenlet run once if that is over."""
        remaining_s = moment_s - time.perf_counter()
        if remaining_s < SHORTEST_S:
            gevent.sleep(0)
        elif not self._wait(remaining_s):
            gevent.sleep(remaining_s)

    def _wait(self, seconds: float) -> bool:
        if self._libc is None or self._watcher is None:
            return False
        value = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        timer = _Itimerspec(_Timespec(0, 0), value)
        if self._libc.timerfd_settime(self._fd, 0, ctypes.byref(timer), None) != 0:
            return False
        get_hub().wait(self._watcher)
        os.read(self._fd, 8)
        return True

    def close(self) -> None:
        """Gives the timer back."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
