"""A load: texts asked by a number of callers at once. What the benchmarks have in common."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

FAILURES_THAT_END_A_LOAD = 20


@dataclass(frozen=True)
class Load:
    """What a load took.

    Attributes:
        latencies_ms: of each call, in the order in which they ended.
        elapsed_s: from the first call to the last answer.
    """

    latencies_ms: list[float]
    elapsed_s: float

    @property
    def per_s(self) -> float:
        """Calls a second."""
        return len(self.latencies_ms) / self.elapsed_s


def put(classify: Callable[[str], object], texts: Sequence[str], clients: int) -> Load:
    """Calls ``classify`` with every text, by ``clients`` threads; one client needs none of its own."""
    latencies_ms: list[float] = []

    def call(text: str) -> None:
        started = time.perf_counter()
        classify(text)
        latencies_ms.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    if clients == 1:
        for text in texts:
            call(text)
    else:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(call, texts))
    return Load(latencies_ms, time.perf_counter() - started)


@dataclass
class Answered:
    """What came of a load that ran for a time.

    Attributes:
        answers: (index of the text, its label), as they came.
        latencies_ms: of the answered calls. In a closed load without each caller's first call (they all begin at
            once), unless there are no others; in an open one from when the call was due.
        failures: message of each call that failed.
        elapsed_s: from the first call to the last answer, calls still under way when the time was up included.
    """

    answers: list[tuple[int, str]] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.elapsed_s


def closed(classify: Callable[[str], str], texts: Sequence[str], clients: int, seconds: float, first: int) -> Answered:
    """``clients`` callers, each with one call under way, until the time is up; what is under way then is waited for.

    Args:
        classify: thread-safe; any exception is a failure.
        texts: taken in order, and from the start again after the last.
        clients: callers at once.
        seconds: no call begins later than that, but each caller's first. A load with many failures ends early.
        first: index of the first text.
    """
    answered = Answered()
    first_calls_ms: list[float] = []
    order = itertools.count(first)
    deadline = time.perf_counter() + seconds

    def caller() -> None:
        latencies_ms = first_calls_ms
        while latencies_ms is first_calls_ms or (
            time.perf_counter() < deadline and len(answered.failures) < FAILURES_THAT_END_A_LOAD
        ):
            index = next(order) % len(texts)
            _call(classify, (index, texts[index]), time.perf_counter(), answered, latencies_ms)
            latencies_ms = answered.latencies_ms

    started = time.perf_counter()
    callers = [threading.Thread(target=caller, daemon=True) for _ in range(clients)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    answered.elapsed_s = time.perf_counter() - started
    if not answered.latencies_ms:
        answered.latencies_ms = first_calls_ms
    return answered


def open_rate(
    classify: Callable[[str], str], texts: Sequence[str], per_s: float, seconds: float, most_at_once: int = 128
) -> Answered:
    """Calls that arrive at random (Poisson) at a rate, whatever becomes of those before.

    Args:
        classify: thread-safe; any exception is a failure.
        texts: taken in order, and from the start again after the last.
        per_s: mean rate.
        seconds: for which calls arrive, at least one; what is under way then is waited for.
        most_at_once: threads; a call that finds none free waits, and its latency counts from when it was due.
    """
    answered = Answered()
    draw = random.Random(0)
    started = due = time.perf_counter()
    with ThreadPoolExecutor(most_at_once) as pool:
        for number in itertools.count():
            due += draw.expovariate(per_s)
            if number and due > started + seconds:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            index = number % len(texts)
            pool.submit(_call, classify, (index, texts[index]), due, answered, answered.latencies_ms)
    answered.elapsed_s = time.perf_counter() - started
    return answered


def _call(
    classify: Callable[[str], str], text: tuple[int, str], due: float, answered: Answered, latencies_ms: list[float]
) -> None:
    """Asks (index, text) and notes what came of it; the latency counts from ``due``."""
    try:
        label = classify(text[1])
    except Exception as exc:  # noqa: BLE001 -- the other side's, of any kind
        answered.failures.append(f"{type(exc).__name__}: {exc}")
        return
    latencies_ms.append((time.perf_counter() - due) * 1000)
    answered.answers.append((text[0], label))


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that ``share`` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def cpu_name() -> str:
    """The processor, as the system names it, and the cores that may be used."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores"


def cpu_flags() -> frozenset[str]:
    """What the processor can do, as the system names it: ``avx512_vnni``, ``amx_bf16``, …"""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def has_bf16() -> bool:
    """Whether the processor multiplies matrices in bf16 (AVX-512 or AMX)."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})
