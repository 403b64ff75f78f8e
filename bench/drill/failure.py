"""Parts of the server die, and clients behave badly, while others go on asking.

In each case a few well-behaved callers ask all the time; what became of their requests is what counts. First of all
they are measured undisturbed, with the same callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from bench.drill import troubles
from bench.drill.arrivals import ANSWERED, Ask, Outcomes, closed, closed_for, latency_ms, median_ms, without_retries
from bench.drill.findings import Finding, at_most, none_of
from bench.drill.served import FREE_PORTS, Served
from bert_triton_client import AsyncClient, BertTritonError, Classification
from demo.server_process import ServerProcess, serving

CALLERS = 2
UNDISTURBED_S = 5.0
AFTER_S = 2.0  # the callers go on so long after the trouble
ENDS_WITHIN_S = 30.0
DRAIN_S = 10
TRIES_TIMEOUT_S = 60.0
STOPPING = ("ServerUnreachableError", "NotReadyError")


def drill(served: Served) -> tuple[str, list[Finding]]:
    """Causes `troubles.TROUBLES` in turn on one server, then stops it; what was done in words, and the findings."""
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        repository = served.repository(Path(folder) / "repository", {})
        flags = ["--model-repository", str(repository), *FREE_PORTS, "--exit-timeout-s", str(DRAIN_S)]
        wrapper = troubles.OWN_SHARED_MEMORY if os.geteuid() == 0 else ()
        with serving(flags, Path(folder) / "server.log", wrapper=wrapper) as process:
            usual = asyncio.run(_undisturbed(process, served))
            findings.append(
                Finding(
                    f"undisturbed, {CALLERS} callers",
                    "",
                    f"p50 {median_ms(usual.answered):.0f} ms, p99 {latency_ms(usual.answered, 0.99):.0f} ms",
                )
            )
            for trouble in troubles.TROUBLES:
                if trouble.cause is troubles.full_shared_memory and not wrapper:
                    findings.append(Finding(trouble.name, "", "not tried: only root can give the server a /dev/shm"))
                else:
                    findings += _cause(trouble, process, served)
            findings += _stopped(process, served)
    return f"{served}; {CALLERS} callers over gRPC, one text a request", findings


async def _undisturbed(process: ServerProcess, served: Served) -> Outcomes:
    async with without_retries(process.url("grpc"), served.model) as client:
        await closed_for(client.classify, served.texts, CALLERS, AFTER_S)
        return await closed_for(client.classify, served.texts, CALLERS, UNDISTURBED_S)


def _cause(trouble: troubles.Trouble, process: ServerProcess, served: Served) -> list[Finding]:
    plain, patient, said, took_s = asyncio.run(_measured(trouble, process, served))
    found = [Finding(trouble.name, "", f"{said}; over after {took_s:.1f} s")]
    if trouble.kills:
        gap_s = _longest_gap_s(plain)
        found.append(at_most(f"{trouble.name}: nobody was answered for", trouble.back_within_s, gap_s, "s", 1))
        found.append(Finding(f"{trouble.name}: requests without retries", "", plain.kinds()))
    else:
        found.append(
            none_of(
                f"{trouble.name}: failed requests of the others",
                len(plain.all) - len(plain.answered),
                len(plain.all),
                plain.messages(),
            )
        )
        found.append(
            Finding(
                f"{trouble.name}: the others' latency",
                "",
                f"p50 {median_ms(plain.answered):.0f} ms, p99 {latency_ms(plain.answered, 0.99):.0f} ms",
            )
        )
    found.append(
        none_of(
            f"{trouble.name}: failed requests of a client that retries",
            len(patient.all) - len(patient.answered),
            len(patient.all),
            patient.messages(),
        )
    )
    return found


async def _measured(
    trouble: troubles.Trouble, process: ServerProcess, served: Served
) -> tuple[Outcomes, Outcomes, str, float]:
    """What callers with and without retries met during the trouble, what its cause says, and how long it took."""
    over = threading.Event()
    url = process.url("grpc")
    async with (
        without_retries(url, served.model, TRIES_TIMEOUT_S) as plain,
        AsyncClient(url, model=served.model, max_retries=100, request_timeout_s=TRIES_TIMEOUT_S) as patient,
    ):
        callers = asyncio.gather(
            closed(_paced(plain), served.texts, CALLERS, over.is_set),
            closed(patient.classify, served.texts, 1, over.is_set),
        )
        await asyncio.sleep(1.0)
        before = troubles.tritonserver(process).pid
        began = time.perf_counter()
        try:
            said = await asyncio.to_thread(trouble.cause, process, served)
            took_s = time.perf_counter() - began
            if (
                trouble.kills
            ):  # whatever died, the whole server is started anew; an instance that lives answers until then
                await asyncio.to_thread(troubles.wait_for_restart, process, before, trouble.back_within_s)
                await _answered(patient, served.texts[0])
                took_s = time.perf_counter() - began
            await asyncio.sleep(AFTER_S)
        finally:
            over.set()
        without, with_retries = await callers
    return without, with_retries, said, took_s


async def _answered(client: AsyncClient, text: str) -> None:
    """Returns when it is back."""
    while True:
        with contextlib.suppress(BertTritonError):
            await client.classify(text)
            return
        await asyncio.sleep(0.1)


def _paced(client: AsyncClient) -> Ask:
    """Asks, but not faster than a refused caller sensibly would."""

    async def ask(text: str) -> Classification:
        try:
            return await client.classify(text)
        except BaseException:
            await asyncio.sleep(0.02)
            raise

    return ask


def _longest_gap_s(outcomes: Outcomes) -> float:
    """The longest time without an answer to anybody."""
    ends = sorted(outcome.due_s + outcome.latency_ms / 1000 for outcome in outcomes.answered)
    return max((later - earlier for earlier, later in itertools.pairwise(ends)), default=float("inf"))


def _stopped(process: ServerProcess, served: Served) -> list[Finding]:
    """SIGTERM while connections are kept open and requests are under way."""
    outcomes, took_s = asyncio.run(_stop_under_load(process, served))
    cut = [outcome for outcome in outcomes.all if outcome.kind not in (ANSWERED, *STOPPING)]
    return [
        at_most("SIGTERM with open connections under load: ended after", DRAIN_S + 5, took_s, "s", 1),
        none_of(
            "SIGTERM: requests that were neither answered nor refused as worth another try",
            len(cut),
            len(outcomes.all),
            f"{outcomes.kinds()}; {outcomes.messages()}",
        ),
    ]


async def _stop_under_load(process: ServerProcess, served: Served) -> tuple[Outcomes, float]:
    over = threading.Event()
    async with without_retries(process.url("grpc"), served.model, 5.0) as client:
        with troubles.connections(process, 20, b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            callers = asyncio.ensure_future(closed(_paced(client), served.texts, CALLERS, over.is_set))
            await asyncio.sleep(1.0)
            began = time.monotonic()
            os.kill(process.process.pid, signal.SIGTERM)
            await asyncio.to_thread(process.process.wait, ENDS_WITHIN_S)
            took_s = time.monotonic() - began
            over.set()
            return await callers, took_s
