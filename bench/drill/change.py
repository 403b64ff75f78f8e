"""A new version of the model, the way back, and a version that must not be served, while callers go on asking.

Version 2 is another export of the same checkpoint with a classifier that is sure of the last label, so every answer
shows which version's graph it came from, beside the version that it names.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from bench.drill.findings import Finding, none_of
from bench.drill.served import FREE_PORTS, Served
from bench.load import percentile
from bench.models import newest_version, read_config
from demo.server_process import ServerProcess, serving

CALLERS = 8
BETWEEN_S = 5.0  # the callers go on so long between two orders
TIMEOUT_S = 60.0
SURE = 0.99999  # probability of the last label: version 2 gives 1, version 1 less
BIAS = 100.0


@dataclass
class Answers:
    """What the callers met.

    Attributes:
        versions: of the answers, as the server names them.
        ends_s: when each answer came.
        latencies_ms: of each.
        mixed: answers that name one version and hold the other's numbers.
        failures: messages.
    """

    versions: list[int] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    mixed: int = 0
    failures: list[str] = field(default_factory=list)

    def longest_gap_s(self) -> float:
        """The longest time without an answer to anybody."""
        return max((later - earlier for earlier, later in itertools.pairwise(sorted(self.ends_s))), default=0.0)

    def p99_ms(self, first: int, last: int) -> float:
        """Of the answers in that order of arrival; NaN of none."""
        return percentile(self.latencies_ms[first:last], 0.99) if last > first else float("nan")


@dataclass(frozen=True)
class Order:
    """One order to the server.

    Attributes:
        words: of ``python -m server``.
        exit_code: 0 if it was done.
        said: its first line.
        took_s: until it had answered.
        first: number of answers when it was given.
        last: number of answers when it had answered.
        then: the version of the last answer before the next order.
    """

    words: str
    exit_code: int
    said: str
    took_s: float
    first: int
    last: int
    then: int


def drill(served: Served) -> tuple[str, list[Finding]]:
    """Measures; what was done in words, and the findings."""
    with tempfile.TemporaryDirectory() as folder:
        repository, control = served.repository(Path(folder) / "repository", {}), Path(folder) / "control"
        flags = ["--model-repository", str(repository), "--control", str(control), *FREE_PORTS]
        with serving(flags, Path(folder) / "server.log") as process:
            served.export_again(repository, bias=BIAS)
            answers, orders = asyncio.run(_changed(process, served, repository, control))
    said = f"{served}; {CALLERS} callers over gRPC, one text a request, no retries; orders {BETWEEN_S:.0f} s apart"
    return said, _findings(answers, orders)


async def _changed(
    process: ServerProcess, served: Served, repository: Path, control: Path
) -> tuple[Answers, list[Order]]:
    answers = Answers()
    address = process.url("grpc").removeprefix("grpc://")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(InferenceServerClient(address)) for _ in range(CALLERS)]
        callers = [asyncio.ensure_future(_ask(client, served, answers, first)) for first, client in enumerate(clients)]
        await asyncio.sleep(BETWEEN_S)
        given = (["reload"], ["rollback", served.model], ["rollback", served.model, "--to", "2"])
        orders = [await _order(words, control, answers) for words in given]
        _copy_version(repository, served.model)
        orders.append(await _order(["reload"], control, answers))
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    return answers, orders


async def _ask(client: InferenceServerClient, served: Served, answers: Answers, first: int) -> None:
    for number in itertools.count(first, CALLERS):
        text = InferInput("TEXT", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[served.texts[number % len(served.texts)].encode()]], dtype=object))
        began = time.perf_counter()
        try:
            result = await client.infer(served.model, [text], client_timeout=TIMEOUT_S)
        except InferenceServerException as exc:
            answers.failures.append(str(exc))
            continue
        ended = time.perf_counter()
        version = int(result.get_response().model_version)
        is_second = float(result.as_numpy("PROBABILITIES").reshape(-1)[-1]) > SURE
        answers.mixed += is_second != (version == 2)
        answers.versions.append(version)
        answers.ends_s.append(ended)
        answers.latencies_ms.append((ended - began) * 1000)


async def _order(words: Sequence[str], control: Path, answers: Answers) -> Order:
    began, first = time.monotonic(), len(answers.versions)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *words, "--control", str(control)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    took_s, last = time.monotonic() - began, len(answers.versions)
    await asyncio.sleep(BETWEEN_S)
    line = said.decode(errors="replace").strip().partition("\n")[0]
    return Order(" ".join(words), process.returncode or 0, line, took_s, first, last, answers.versions[-1])


def _copy_version(repository: Path, model: str) -> None:
    """A version 3 that nobody exported: the folders of version 2, copied."""
    tensor_model = read_config(repository, model).parameters["tensor_model"].string_value
    for name in (tensor_model, model):
        newest = newest_version(repository, name)
        shutil.copytree(newest, newest.with_name(str(int(newest.name) + 1)))


def _findings(answers: Answers, orders: Sequence[Order]) -> list[Finding]:
    asked = len(answers.versions) + len(answers.failures)
    findings = [
        none_of("failed requests", len(answers.failures), asked, "; ".join(answers.failures[:2])),
        none_of("answers of one version with another's numbers", answers.mixed, asked),
        Finding("nobody was answered for, at most", "", f"{answers.longest_gap_s() * 1000:.0f} ms"),
        Finding("p99 before the first order", "", f"{answers.p99_ms(CALLERS, orders[0].first):.0f} ms"),
    ]
    for order, (accepted, then) in zip(orders, ((True, 2), (True, 1), (True, 2), (False, 2)), strict=True):
        wanted = f"{'done' if accepted else 'refused'}, then version {then}"
        found = (
            f"{'done' if order.exit_code == 0 else 'refused'} after {order.took_s:.1f} s, then version {order.then}; "
            f"p99 meanwhile {answers.p99_ms(order.first, order.last):.0f} ms; it said: {order.said}"
        )
        met = (order.exit_code == 0) == accepted and order.then == then
        findings.append(Finding(f"`{order.words}`", wanted, found, met))
    return findings
