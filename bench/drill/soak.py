"""80 % of what the server can, for a long time, with texts of all lengths: does anything grow?"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.drill.arrivals import Outcomes, closed_for, latency_ms, median_ms, poisson, precedence, without_retries
from bench.drill.findings import Finding, at_most, none_of
from bench.drill.resources import Resources, resources, server_processes
from bench.drill.served import Served
from server import TritonServer

SHARE = 0.8
CALLERS = 32
# Machines that are shared change their speed within minutes: the capacity is measured again and again.
LOAD_S = 110.0
CAPACITY_S = 10.0
SAMPLE_EVERY_S = 5.0
SETTLED = 0.2  # of the time; memory that is filled once is filled by then
GROWTH_PER_HOUR_PERCENT = 2.0


@dataclass(frozen=True)
class Sample:
    """Resources at a moment, counted from the start."""

    at_s: float
    held: Resources


def drill(served: Served, seconds: float) -> tuple[str, list[Finding]]:
    """Measures; what was done in words, and the findings."""
    with (
        tempfile.TemporaryDirectory() as folder,
        TritonServer(served.repository(Path(folder) / "repository", {})) as server,
        precedence(),
    ):
        rates, outcomes, samples = asyncio.run(_measure(server, served, seconds))
    said = (
        f"{served}; {SHARE:.0%} of the capacity, measured every {LOAD_S + CAPACITY_S:.0f} s: {min(rates):.0f} to "
        f"{max(rates):.0f} texts/s, at random times for {seconds / 60:.0f} minutes over gRPC"
    )
    return said, _findings(outcomes, samples)


async def _measure(server: TritonServer, served: Served, seconds: float) -> tuple[list[float], Outcomes, list[Sample]]:
    processes = server_processes(server)
    async with without_retries(server.grpc_url, served.model) as client:
        await closed_for(client.classify, served.texts, CALLERS, 2.0)
        sampling = asyncio.ensure_future(_sampled(processes))
        loads: list[Outcomes] = []
        rates: list[float] = []
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic() - CAPACITY_S) > 0:
            rates.append(SHARE * (await closed_for(client.classify, served.texts, CALLERS, CAPACITY_S)).per_s)
            loads.append(await poisson(client.classify, served.texts, rates[-1], min(LOAD_S, left_s), seed=len(loads)))
        sampling.cancel()
        samples = await sampling
    outcomes = Outcomes([outcome for load in loads for outcome in load.all], sum(load.elapsed_s for load in loads))
    return rates, outcomes, samples


async def _sampled(processes: Sequence[psutil.Process]) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    try:
        while True:
            samples.append(Sample(time.monotonic() - began, resources(processes)))
            await asyncio.sleep(SAMPLE_EVERY_S)
    except asyncio.CancelledError:
        return samples


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Growth of the resident memory in MiB an hour: the least-squares line through the samples."""
    times = np.array([sample.at_s for sample in samples])
    resident = np.array([sample.held.resident_mb for sample in samples])
    return float(np.polyfit(times, resident, 1)[0] * 3600)


def _findings(outcomes: Outcomes, samples: Sequence[Sample]) -> list[Finding]:
    settled = [sample for sample in samples if sample.at_s >= SETTLED * samples[-1].at_s]
    first, last = settled[0].held, settled[-1].held
    slope = slope_per_hour(settled)
    return [
        none_of("failed requests", len(outcomes.all) - len(outcomes.answered), len(outcomes.all), outcomes.messages()),
        Finding(
            "latency",
            "",
            f"p50 {median_ms(outcomes.answered):.0f} ms, p99 {latency_ms(outcomes.answered, 0.99):.0f} ms",
        ),
        Finding("at the start", "", str(samples[0].held)),
        Finding(f"after {settled[0].at_s / 60:.0f} minutes", "", str(first)),
        Finding("at the end", "", str(last)),
        at_most("resident memory, slope", GROWTH_PER_HOUR_PERCENT, slope / first.resident_mb * 100, "% an hour", 2),
        at_most("shared memory, growth", 0, last.shared_mb - first.shared_mb, "MiB", 1),
        at_most("file descriptors, growth", 0, last.descriptors - first.descriptors, ""),
    ]
