"""A load: every text once, by a number of callers at once. What the benchmarks have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


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


def cpu_name() -> str:
    """The processor, as the system names it, and the cores that may be used."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores"
