"""Requests that arrive at random times, whatever becomes of those before, and what became of each."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.load import percentile
from bert_triton_client import AsyncClient, BertTritonError, Classification

ANSWERED = "answered"
PRECEDENCE = -10  # as nice
Ask = Callable[[str], Awaitable[Classification]]


@dataclass(frozen=True)
class Outcome:
    """One request.

    Attributes:
        due_s: when it was to be sent, counted from the first.
        latency_ms: from when it was due to its answer or refusal.
        late_ms: of that, until it was sent: the load generator's own lag.
        kind: `ANSWERED`, or the class of the client's error.
        message: of the error.
    """

    due_s: float
    latency_ms: float
    late_ms: float
    kind: str
    message: str = ""


class Outcomes:
    """Of one load."""

    def __init__(self, outcomes: Sequence[Outcome], elapsed_s: float) -> None:
        self.all = list(outcomes)
        self.elapsed_s = elapsed_s

    def of(self, kind: str) -> list[Outcome]:
        """Those of one kind."""
        return [outcome for outcome in self.all if outcome.kind == kind]

    @property
    def answered(self) -> list[Outcome]:
        """Those with an answer."""
        return self.of(ANSWERED)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.answered) / self.elapsed_s

    def kinds(self) -> str:
        """How many of each kind, in words."""
        counts = collections.Counter(outcome.kind for outcome in self.all)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())

    def messages(self, most: int = 3) -> str:
        """The commonest messages of what was not answered."""
        counts = collections.Counter(outcome.message for outcome in self.all if outcome.kind != ANSWERED)
        return "; ".join(f"{message} ({count})" for message, count in counts.most_common(most))


def latency_ms(outcomes: Sequence[Outcome], share: float, *, since_sent: bool = False) -> float:
    """A percentile of latencies, from when a request was due or was sent; NaN of none."""
    taken = [outcome.latency_ms - since_sent * outcome.late_ms for outcome in outcomes]
    return percentile(taken, share) if taken else float("nan")


def median_ms(outcomes: Sequence[Outcome]) -> float:
    """The median latency; NaN of none."""
    return statistics.median(outcome.latency_ms for outcome in outcomes) if outcomes else float("nan")


async def poisson(ask: Ask, texts: Sequence[str], per_s: float, seconds: float, seed: int = 0) -> Outcomes:
    """Requests at random times (Poisson) at a mean rate; what is under way at the end is waited for.

    Args:
        ask: answers a text.
        texts: taken in order, and from the start again after the last.
        per_s: mean rate.
        seconds: for which requests are sent.
        seed: of the times.
    """
    draw = random.Random(seed)
    tasks: list[asyncio.Task[Outcome]] = []
    started = time.perf_counter()
    due_s = 0.0
    for number in itertools.count():
        due_s += draw.expovariate(per_s)
        if due_s > seconds:
            break
        await asyncio.sleep(max(0.0, started + due_s - time.perf_counter()))
        tasks.append(asyncio.create_task(_asked(ask, texts, number, started, due_s)))
    outcomes = await asyncio.gather(*tasks)
    return Outcomes(outcomes, time.perf_counter() - started)


async def closed(ask: Ask, texts: Sequence[str], callers: int, until: Callable[[], bool]) -> Outcomes:
    """``callers`` requests under way at any time, until told to stop."""
    outcomes: list[Outcome] = []
    numbers = itertools.count()
    started = time.perf_counter()

    async def caller() -> None:
        while not until():
            now_s = time.perf_counter() - started
            outcomes.append(await _asked(ask, texts, next(numbers), started, now_s))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Outcomes(outcomes, time.perf_counter() - started)


async def closed_for(ask: Ask, texts: Sequence[str], callers: int, seconds: float) -> Outcomes:
    """The same for a time."""
    end = time.perf_counter() + seconds
    return await closed(ask, texts, callers, lambda: time.perf_counter() >= end)


async def _asked(ask: Ask, texts: Sequence[str], number: int, started: float, due_s: float) -> Outcome:
    """What becomes of the request ``number``, due ``due_s`` after ``started``."""
    late_ms = (time.perf_counter() - started - due_s) * 1000
    kind, message = ANSWERED, ""
    try:
        await ask(texts[number % len(texts)])
    except BertTritonError as exc:
        kind, message = type(exc).__name__, str(exc)
    latency_ms = (time.perf_counter() - started - due_s) * 1000
    return Outcome(due_s, latency_ms, late_ms, kind, message)


@contextlib.contextmanager
def precedence() -> Iterator[None]:
    """Loads that are generated inside go before the server that shares their cores, where the system allows it.

    Otherwise a request is sent late, and its answer is read late, by as long as the server computes: no other machine's
    requests are.
    """
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRECEDENCE)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, usual)


def without_retries(url: str, model: str, timeout_s: float = 30.0) -> AsyncClient:
    """A client that reports every refusal and bounds nothing by itself."""
    return AsyncClient(url, model=model, max_retries=0, max_in_flight=10_000, request_timeout_s=timeout_s)
