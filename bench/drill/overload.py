"""Three times what the server can, for minutes.

A text model with a bounded queue refuses what finds the queue full at once (UNAVAILABLE), and what waited too long when
its time is up. So whoever is accepted is answered within the time-out plus the execution under way, and the server
goes on at its full rate, at a memory that does not grow.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import metrics
from bench.drill.arrivals import (
    ANSWERED,
    Ask,
    Outcomes,
    closed_for,
    latency_ms,
    median_ms,
    poisson,
    precedence,
    without_retries,
)
from bench.drill.findings import Finding, at_least, at_most
from bench.drill.resources import Resources, resources, server_processes
from bench.drill.served import Served
from bench.load import percentile
from server import TritonServer

FACTOR = 3
CALLERS = 32
QUEUE_SECONDS = 1.0  # the queue holds what the server does in that time: more than the time-out allows
TIMEOUT_MS = 750
REFUSAL_MS = 50
RECOVERY_S = 2.0
PROBE_EVERY_S = 0.1


@dataclass(frozen=True)
class Overload:
    """What was measured.

    Attributes:
        capacity_per_s: answers a second to `CALLERS` callers, mean of just before and just after.
        load: the overload itself.
        max_tokens: of an execution.
        execution_ms: of so many tokens, by the time of one as the server counts it.
        cores: what generating it took.
        before: resources of the server after the warm-up.
        after: after the overload.
        recovery_s: from the end of the load, answers still to come included, until a lone request takes at most
            twice its time before.
    """

    capacity_per_s: float
    load: Outcomes
    max_tokens: int
    execution_ms: float
    cores: float
    before: Resources
    after: Resources
    recovery_s: float


@dataclass(frozen=True)
class Computed:
    """What the tensor model has computed so far.

    Attributes:
        tokens: without padding.
        compute_us: its instances' time, added up.
    """

    tokens: float
    compute_us: float

    @classmethod
    def read(cls, server: TritonServer, served: Served) -> Computed:
        """From the server's metrics."""
        page = metrics.read(server)
        return cls(
            metrics.total(page, "bert_text_tokens_total", served.model),
            metrics.total(page, "nv_inference_compute_infer_duration_us", served.tensor_model),
        )

    def ms_per_token(self, before: Computed) -> float:
        """Of an instance, since then."""
        return (self.compute_us - before.compute_us) / (self.tokens - before.tokens) / 1000


def drill(served: Served, seconds: float) -> tuple[str, list[Finding]]:
    """Measures; what was done in words, and the findings."""
    with tempfile.TemporaryDirectory() as folder:
        capacity = _capacity(served, Path(folder) / "free", seconds=min(15.0, seconds))
        queue = max(8, round(capacity * QUEUE_SECONDS))
        repository = served.repository(
            Path(folder) / "bounded", {"max_queue_size": str(queue), "queue_timeout_ms": str(TIMEOUT_MS)}
        )
        found = _overload(served, repository, capacity, queue, seconds)
    said = (
        f"{served}; {FACTOR} x its capacity of {capacity:.0f} texts/s at random times for {seconds:.0f} s over gRPC, "
        f"one text a request, no retries; max_queue_size {queue}, queue_timeout_ms {TIMEOUT_MS}"
    )
    return said, _findings(found)


def _capacity(served: Served, folder: Path, seconds: float) -> float:
    with TritonServer(served.repository(folder, {})) as server, precedence():
        return asyncio.run(_closed_rate(server.grpc_url, served, seconds))


async def _closed_rate(url: str, served: Served, seconds: float) -> float:
    async with without_retries(url, served.model) as client:
        await closed_for(client.classify, served.texts, CALLERS, 2.0)  # warm-up
        return (await closed_for(client.classify, served.texts, CALLERS, seconds)).per_s


def _overload(served: Served, repository: Path, capacity: float, queue: int, seconds: float) -> Overload:
    with TritonServer(repository) as server, precedence():
        return asyncio.run(_measure(server, served, capacity, queue, seconds))


async def _measure(server: TritonServer, served: Served, capacity: float, queue: int, seconds: float) -> Overload:
    processes = server_processes(server)
    async with without_retries(server.grpc_url, served.model) as client:
        await closed_for(client.classify, served.texts, min(CALLERS, queue), 2.0)
        lone = await closed_for(client.classify, served.texts, 1, 3.0)
        # The first overload fills what is filled once: arenas, caches of shapes, connection buffers.
        await poisson(client.classify, served.texts, FACTOR * capacity, min(60.0, seconds / 2), seed=1)
        before = resources(processes)
        just_before = await closed_for(client.classify, served.texts, min(CALLERS, queue), min(15.0, seconds))
        computed, cpu_s = Computed.read(server, served), time.process_time()
        load = await poisson(client.classify, served.texts, FACTOR * capacity, seconds)
        cpu_s = time.process_time() - cpu_s
        ms_per_token = Computed.read(server, served).ms_per_token(computed)
        answered_late_s = load.elapsed_s - seconds  # what was accepted last
        recovery_s = answered_late_s + await _recovery(client.classify, served.texts, 2 * median_ms(lone.answered))
        after = resources(processes)
        again = await closed_for(client.classify, served.texts, min(CALLERS, queue), min(15.0, seconds))
    return Overload(
        capacity_per_s=(just_before.per_s + again.per_s) / 2,
        load=load,
        max_tokens=served.max_tokens,
        execution_ms=ms_per_token * served.max_tokens,
        cores=cpu_s / load.elapsed_s,
        before=before,
        after=after,
        recovery_s=recovery_s,
    )


async def _recovery(ask: Ask, texts: Sequence[str], limit_ms: float) -> float:
    """Seconds until a lone request is answered within the limit."""
    started = time.perf_counter()
    while time.perf_counter() - started < 60:
        found = await closed_for(ask, texts, 1, PROBE_EVERY_S)
        if found.answered and min(outcome.latency_ms for outcome in found.answered) <= limit_ms:
            break
    return time.perf_counter() - started


def _late_ms(load: Outcomes) -> float:
    return percentile([outcome.late_ms for outcome in load.all], 0.99)


def _findings(found: Overload) -> list[Finding]:
    load = found.load
    failed = [outcome for outcome in load.all if outcome.kind != ANSWERED]
    refused = [outcome for outcome in failed if "max_queue_size" in outcome.message]
    timed_out = [outcome for outcome in failed if "max_queue_size" not in outcome.message]
    bound_ms = TIMEOUT_MS + found.execution_ms
    return [
        Finding("requests", "", f"{len(load.all)}: {load.kinds()}"),
        Finding("messages of those refused", "", load.messages()),
        Finding("sent late by the load generator, which shares the cores: p99", "", f"{_late_ms(load):.0f} ms"),
        Finding("which itself took", "", f"{found.cores:.2f} cores"),
        Finding(f"a full execution, of {found.max_tokens} tokens", "", f"{found.execution_ms:.0f} ms"),
        *(
            at_most(
                f"refused, queue full: p{share * 100:.0f} since it was sent",
                REFUSAL_MS,
                latency_ms(refused, share, since_sent=True),
                "ms",
                1,
            )
            for share in (0.5, 0.99)
        ),
        at_most(
            "timed out in the queue: slowest since it was sent",
            round(bound_ms),
            latency_ms(timed_out, 1.0, since_sent=True),
            "ms",
        )
        if timed_out
        else Finding("timed out in the queue", "", "none"),
        *(
            at_most(
                f"answered: p{share * 100:.0f} since it was sent",
                round(bound_ms),
                latency_ms(load.answered, share, since_sent=True),
                "ms",
            )
            for share in (0.5, 0.99)
        ),
        at_least("answers/s, of the maximum", 0.9, load.per_s / found.capacity_per_s, ""),
        at_most("memory, growth of all server processes", 5, found.after.growth_percent(found.before), "%", 1),
        Finding("shared memory, descriptors before and after", "", f"{found.before} and {found.after}"),
        at_most("recovery: a lone request within twice its time before", RECOVERY_S, found.recovery_s, "s", 2),
    ]
