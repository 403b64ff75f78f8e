"""Cells as a load test leaves them, for tests of what is done with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.cell import (
    OK,
    CellResult,
    CellSpec,
    ClientSide,
    Estimate,
    GeneratorSide,
    ModelCounters,
    ServerSide,
    Setting,
    Workload,
)
from loadtest.samples import Samples

SETTING = Setting("2 cores", "2.51.0", "1", "text", "int8", "1 x KIND_CPU", "dynamic", "words: mean 21.4, p95 47")
COUNTERS = ModelCounters("sentiment", "1", 500, 0, 4000, 500, 0.2, 0.1, 40.0, 0.05, 0)


def spec(cell_id: str = "batch-size_sentiment_b8_u1", **fields: Any) -> CellSpec:
    given = {"series": "batch-size", "url": "grpc://localhost:8001", "model": "sentiment", "batch_size": 8, **fields}
    return CellSpec(id=cell_id, **given)


def client(
    *,
    requests_per_s: float = 50.0,
    p99_ms: float | None = 80.0,
    batch_size: int = 8,
    failures: dict[str, int] | None = None,
) -> ClientSide:
    """A window of 10 s."""
    requests = round(requests_per_s * 10)
    latency_ms = {} if p99_ms is None else {"p50": Estimate(p99_ms / 2, p99_ms / 3, p99_ms), "p99": Estimate(p99_ms)}
    return ClientSide(
        duration_s=10.0,
        requests=requests,
        failures=failures or {},
        failure_examples=dict.fromkeys(failures or {}, "an example"),
        requests_per_s=Estimate(requests_per_s, requests_per_s - 1, requests_per_s + 1),
        sentences_per_s=Estimate(requests_per_s * batch_size),
        latency_ms=latency_ms,
        mean_latency_ms=None if p99_ms is None else p99_ms / 2,
        max_latency_ms=p99_ms,
    )


def result(
    cell: CellSpec | None = None, *, verdict: str = OK, started_at: str = "2026-11-22T03:00:00+00:00", **fields: Any
) -> CellResult:
    cell = cell or spec()
    return CellResult(
        spec=cell,
        setting=SETTING,
        started_at=started_at,
        client=client(batch_size=cell.batch_size, **fields),
        generator=GeneratorSide(1, 0.1, 0.1, 0.3, None, 0, 0, 10, 0, 230.5, SETTING.lengths),
        server=ServerSide((COUNTERS,), 0, 10_000, 400, "CPU", 0.95, 1_000_000),
        verdict=verdict,
        reasons=() if verdict == OK else ("because",),
    )


def closed(users: int, *, verdict: str = OK, **fields: Any) -> CellResult:
    cell = spec(
        f"concurrency_sentiment_b1_u{users}", series="concurrency", batch_size=1, workload=Workload(users=users)
    )
    return result(cell, verdict=verdict, **fields)


def opened(rate_per_s: float, *, verdict: str = OK, **fields: Any) -> CellResult:
    cell = spec(f"capacity_sentiment_b1_r{rate_per_s:g}", batch_size=1, workload=Workload(rate_per_s=rate_per_s))
    return result(cell, verdict=verdict, **fields)


def samples(n: int = 20) -> Samples:
    begin_s = np.linspace(0, 9, n)
    latency_s = np.full(n, 0.04)
    return Samples(begin_s, latency_s, np.zeros(n, np.uint8), (), begin_s + latency_s)
