"""Latency of one server at half of what it can: requests at random times, beside the lone request's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import closed, open_rate, percentile


@dataclass(frozen=True)
class HalfLoad:
    """One repetition.

    Attributes:
        per_s: rate at which requests arrived.
        lone_p50_ms: one client, one request at a time.
        lone_p99_ms: the same: the longest texts, mostly.
        p50_ms: at the rate.
        p99_ms: at the rate.
        failed: requests, of both.
    """

    per_s: float
    lone_p50_ms: float
    lone_p99_ms: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def ratio(self) -> float:
        """p99 at the rate / the lone request's median."""
        return self.p99_ms / self.lone_p50_ms

    @property
    def ratio_to_p99(self) -> float:
        """p99 at the rate / the lone request's p99."""
        return self.p99_ms / self.lone_p99_ms


def half_load(
    classify: Callable[[str], str], texts: Sequence[str], per_s: float, seconds: float, repetitions: int
) -> list[HalfLoad]:
    """Lone and at half of ``per_s`` in turn; the latter for twice the time, as its tail needs more requests."""
    found = []
    for number in range(repetitions):
        lone = closed(classify, texts, 1, seconds, number * 128)
        loaded = open_rate(classify, texts, per_s / 2, 2 * seconds)
        failed = len(lone.failures) + len(loaded.failures)
        if not (lone.latencies_ms and loaded.latencies_ms):
            continue
        found.append(
            HalfLoad(
                per_s / 2,
                percentile(lone.latencies_ms, 0.50),
                percentile(lone.latencies_ms, 0.99),
                percentile(loaded.latencies_ms, 0.50),
                percentile(loaded.latencies_ms, 0.99),
                failed,
            )
        )
    return found
