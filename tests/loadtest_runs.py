"""Runs of load tests that nobody measured: built from the data classes, for tests of what is made of them.

full_run() ──► every series, a failed and an invalid cell, two models, facts, a capacity, a cost, a machine
samples_of(cell) ──► raw samples that fit a cell's percentiles roughly; the same every time
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from loadtest.cell import (
    FAILED,
    INVALID,
    OK,
    Capacity,
    CellResult,
    CellSpec,
    ClientSide,
    Cost,
    Estimate,
    GeneratorSide,
    HardwareRow,
    ModelCounters,
    ModelFacts,
    Run,
    RunInfo,
    ServerSide,
    Setting,
    Workload,
)
from loadtest.samples import Samples

HARDWARE = "Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores (AVX-512 VNNI), 24 GB; no GPU"


def around(value: float, share: float = 0.05) -> Estimate:
    """A value with an interval of some per cent to either side."""
    return Estimate(value, value * (1 - share), value * (1 + share))


def client_side(
    *, p50_ms: float, per_s: float, batch_size: int = 1, failed: int = 0, interval: bool = True
) -> ClientSide:
    """What users saw in 10 seconds."""
    factors = {"p50": 1.0, "p90": 1.5, "p95": 1.8, "p99": 2.6}
    latency = {name: around(p50_ms * factor, 0.04 * factor) for name, factor in factors.items()}
    if not interval:
        latency["p99"] = Estimate(latency["p99"].value)
    return ClientSide(
        duration_s=10.0,
        requests=round(per_s * 10),
        failures={"OverloadedError": failed} if failed else {},
        failure_examples={"OverloadedError": "queue is full (limit 8)"} if failed else {},
        requests_per_s=around(per_s),
        sentences_per_s=around(per_s * batch_size),
        latency_ms=latency,
        mean_latency_ms=p50_ms * 1.1,
        max_latency_ms=p50_ms * 4,
    )


def generator_side(*, open_workload: bool = False) -> GeneratorSide:
    """A generator that had little to do."""
    return GeneratorSide(
        processes=1,
        max_cpu_share=0.09,
        cpu_cores=0.09,
        loop_lag_p99_ms=1.2,
        send_lag_p99_ms=0.8 if open_workload else None,
        missed_sends=0,
        unfinished=0,
        reasked=20,
        changed=0,
        mean_request_bytes=212.0,
        lengths="words: mean 21.4, p95 47",
    )


def counters(model: str, total_ms: float, requests: int, rows: int) -> ModelCounters:
    """Counters whose times add up to ``total_ms``."""
    return ModelCounters(
        model=model,
        version="1",
        requests=requests,
        failures=0,
        inferences=rows,
        executions=max(1, requests // 2),
        queue_ms=0.3 * total_ms,
        compute_input_ms=0.02 * total_ms,
        compute_infer_ms=0.66 * total_ms,
        compute_output_ms=0.02 * total_ms,
        cache_hits=0,
    )


def server_side(model: str, client: ClientSide, batch_size: int) -> ServerSide:
    """A busy CPU, and a tensor model behind a text model."""
    total = (client.mean_latency_ms or 1.0) * 0.95
    models = [counters(model, total, client.requests, client.requests * batch_size)]
    if not model.endswith(("fp32", "fp16", "int8")):
        models.append(counters(f"{model}_int8", total * 0.6, client.requests, client.requests * batch_size))
    return ServerSide(tuple(models), 0, 21000, 400, "CPU", 0.83, 1_230_000_000)


def cell(
    cell_id: str,
    series: str,
    *,
    model: str = "sentiment",
    precision: str = "int8",
    batch_size: int = 1,
    users: int | None = 4,
    rate_per_s: float | None = None,
    p50_ms: float = 20.0,
    per_s: float = 50.0,
    failed: int = 0,
    verdict: str = OK,
    reasons: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    counted: bool = True,
    interval: bool = True,
) -> CellResult:
    """One cell."""
    workload = Workload(rate_per_s=rate_per_s) if rate_per_s else Workload(users=users)
    spec = CellSpec(
        cell_id, series, "grpc://127.0.0.1:8001", model, batch_size=batch_size, workload=workload, max_duration_s=60.0
    )
    client = client_side(p50_ms=p50_ms, per_s=per_s, batch_size=batch_size, failed=failed, interval=interval)
    kind = "tensors" if model.endswith(("fp32", "fp16", "int8")) else "text"
    setting = Setting(
        hardware=HARDWARE,
        triton_version="2.51.0",
        served_version="1",
        kind=kind,
        precision=precision,
        instances="1 x KIND_CPU",
        batching="dynamic, preferred 8, 16, at most 1 ms in the queue",
        lengths="log-normal words, median 18, sigma 0.6, 5 to 120",
    )
    server = server_side(model, client, batch_size) if counted else None
    generator = generator_side(open_workload=rate_per_s is not None)
    started_at = "2026-11-22T03:04:05+00:00"
    return CellResult(spec, setting, started_at, client, generator, server, verdict, reasons, warnings)


def empty_run(**parts: object) -> Run:
    """A run of nothing but ``parts``."""
    info = RunInfo(("batch-size", "--sizes", "1", "8"), "2026-11-22T03:00:00+00:00", HARDWARE)
    return replace(Run("a-run", info), **parts)  # type: ignore[arg-type]


def facts(model: str, precision: str, architecture: str, accuracy: float = 0.861, size_mb: float = 24.2) -> ModelFacts:
    """What is known of a model."""
    estimate = Estimate(accuracy, accuracy - 0.014, accuracy + 0.014)
    return ModelFacts(model, precision, architecture, round(size_mb * 1e6), estimate, 2200, "test.csv")


BATCH_CELLS = (
    cell("batch-size-1", "batch-size", p50_ms=21, per_s=47, batch_size=1),
    cell("batch-size-8", "batch-size", p50_ms=88, per_s=11.4, batch_size=8),
    cell("batch-size-16", "batch-size", p50_ms=165, per_s=6.1, batch_size=16),
    cell(
        "batch-size-32",
        "batch-size",
        p50_ms=320,
        per_s=3.2,
        batch_size=32,
        interval=False,
        warnings=("32 answers are too few for an interval of the p99: expected 400 or more; raise --max-duration-s",),
    ),
    cell(
        "batch-size-64",
        "batch-size",
        p50_ms=640,
        per_s=1.6,
        batch_size=64,
        failed=9,
        verdict=FAILED,
        reasons=("9 of 25 requests failed (36 %), expected at most 0.1 %: OverloadedError: queue is full (limit 8)",),
    ),
)
CONCURRENCY_CELLS = tuple(
    cell(f"concurrency-{users}", "concurrency", users=users, p50_ms=1000 * users / per_s, per_s=per_s)
    for users, per_s in ((1, 42), (2, 55), (4, 61), (8, 66), (16, 68), (32, 69))
)
CAPACITY_CELLS = (
    cell("capacity-rate-30", "capacity", rate_per_s=30, per_s=29.8, p50_ms=27),
    cell("capacity-rate-50", "capacity", rate_per_s=50, per_s=50.2, p50_ms=71),
    cell("capacity-rate-58", "capacity", rate_per_s=58, per_s=57.1, p50_ms=180),
    cell("capacity-rate-62", "capacity", rate_per_s=62, per_s=60.9, p50_ms=420),
    cell(
        "capacity-rate-80",
        "capacity",
        rate_per_s=80,
        per_s=61,
        p50_ms=2900,
        verdict=INVALID,
        reasons=("the generator was the bottleneck: its busiest process used 97 % of a core",),
    ),
)
PRECISION_CELLS = tuple(
    cell(
        f"precision-{model}-{kind}",
        "precision",
        model=model,
        precision=model.rpartition("_")[2],
        users=users,
        p50_ms=p50_ms * (1 if users == 1 else 6),
        per_s=900 / p50_ms * (1 if users == 1 else 1.4),
    )
    for model, p50_ms in (("sentiment_fp32", 14.0), ("sentiment_fp16", 11.5), ("sentiment_int8", 8.2))
    for kind, users in (("latency", 1), ("throughput", 8))
)


def full_run() -> Run:
    """Everything that a run can hold."""
    return empty_run(
        name="tables-20261122-030000",
        info=RunInfo(
            ("tables", "--readme", "README.md", "--monthly-price", "200"),
            "2026-11-22T03:00:00+00:00",
            HARDWARE,
            "after the tokenizer fix",
        ),
        cells=(*PRECISION_CELLS, *BATCH_CELLS, *CONCURRENCY_CELLS, *CAPACITY_CELLS),
        facts=(
            facts("sentiment_fp32", "fp32", "bert 6 x 384", 0.863, 90.9),
            facts("sentiment_fp16", "fp16", "bert 6 x 384", 0.863, 69.3),
            facts("sentiment_int8", "int8", "bert 6 x 384"),
        ),
        capacities=(Capacity("sentiment", 500.0, 0.001, 16, "batch-size-16", 58.0, "capacity-rate-58", True),),
        costs=(Cost("my server", 200.0, "$", 58.0, 1.0, 200 / (58 * 3600 * 730) * 1000),),
        hardware=(
            HardwareRow(HARDWARE, "sentiment", "int8", 1, "closed, 16 users", 68.0, 412.0, "2026-11-22", "tables-1"),
        ),
    )


def samples_of(result: CellResult) -> Samples:
    """Log-normal latencies with the median of ``result``."""
    count = max(result.client.requests, 1)
    source = np.random.default_rng(zlib.crc32(result.spec.id.encode()))
    latency = result.client.latency_ms["p50"].value / 1000 * np.exp(0.4 * source.standard_normal(count))
    begin = np.sort(source.uniform(0, result.client.duration_s, count))
    return Samples(begin, latency, np.zeros(count, np.uint8), (), np.sort(begin + latency))


def samples_by_id(run: Run) -> dict[str, Samples]:
    """The samples of every cell of ``run``."""
    return {result.spec.id: samples_of(result) for result in run.cells}
