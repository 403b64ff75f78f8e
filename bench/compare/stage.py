"""Keeps the contestants up: started one after another, warmed up, idle until it is their turn, ended at the end.

Where memory runs short, those that come later are ended again and started for each of their turns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from bench.compare.contestant import Answerer, BulkAnswerer, Contestant, Unavailable, Workload
from bench.load import closed

WARM_UP_S = 2.0
WARM_UP_TEXTS = 32
# What must stay available: the largest contestant, and what the system needs to stay itself.
MEMORY_RESERVE = 4 * 2**30


@dataclass
class Entry:
    """A contestant in this run.

    Attributes:
        contestant: who.
        status: empty while all is well; else a word (unavailable, failed) and the reason.
        detail: what was decided at its start.
        memory_mb: proportional set size of its processes after the warm-up.
        per_s: its rate when last seen.
        answerer: while it is up.
        resident: whether it stays up.
    """

    contestant: Contestant
    status: str = ""
    detail: str = ""
    memory_mb: float = 0.0
    per_s: float = 0.0
    answerer: Answerer | None = None
    resident: bool = True
    processes: list[psutil.Process] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, workload: Workload, clients: int) -> None:
        """Starts and warms up; what cannot be is noted in ``status``."""
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        try:
            self.answerer = self._stack.enter_context(self.contestant.start(workload))
            self.detail = str(getattr(self.answerer, "detail", ""))
            self.processes = [
                process for process in psutil.Process().children(recursive=True) if process.pid not in before
            ]
            self.per_s = _warm_up(self.answerer, workload, clients)
            self.memory_mb = sum(_memory(process) for process in self.tree()) / 2**20
        except Unavailable as exc:
            self.end(f"unavailable: {exc}")
        except Exception as exc:  # noqa: BLE001 -- one row must not end the run
            self.end(f"unavailable: cannot be started: {type(exc).__name__}: {exc}")

    def end(self, status: str = "") -> None:
        """Ends its processes."""
        self.status = self.status or status
        self.answerer = None
        try:
            self._stack.close()
        except Exception as exc:  # noqa: BLE001 -- one row must not end the run
            self.status = self.status or f"failed: cannot be ended: {exc}"
        self._stack = contextlib.ExitStack()
        self.processes = []

    def tree(self) -> Iterator[psutil.Process]:
        """Its processes now."""
        seen = set()
        for root in self.processes:
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    if process.pid not in seen:
                        seen.add(process.pid)
                        yield process

    def cpu_s(self) -> float:
        """CPU seconds of its processes so far."""
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def memory_is_short() -> bool:
    """Whether another contestant might not fit."""
    return int(psutil.virtual_memory().available) < MEMORY_RESERVE


def _warm_up(answerer: Answerer, workload: Workload, clients: int) -> float:
    """Asks it for a while; its rate."""
    if isinstance(answerer, BulkAnswerer):
        texts = workload.texts[:WARM_UP_TEXTS]
        answerer.classify_all(texts)
        started = time.perf_counter()
        answerer.classify_all(texts)
        return len(texts) / (time.perf_counter() - started)
    answered = closed(answerer.classify, workload.texts, clients, WARM_UP_S, 0)
    if answered.failures:
        raise Unavailable(f"fails: {answered.failures[0]}")
    return answered.per_s


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
