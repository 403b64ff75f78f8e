"""One block: one contestant has the machine for some seconds."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.compare.contestant import BulkAnswerer, Workload
from bench.compare.stage import Entry
from bench.compare.texts import GROUP
from bench.load import Answered, closed, percentile

PAUSE_S = 0.2  # before a block: whoever's threads still spin goes to sleep


@dataclass(frozen=True)
class Block:
    """What came of it.

    Attributes:
        row: the contestant's name.
        round: number, from 0.
        sentences_per_s: texts answered a second; those that failed do not count.
        p50_ms: median latency; None where a whole list is asked at once.
        p99_ms: 99th percentile of the same.
        answered: texts.
        failed: texts.
        failure: the first message.
        seconds: from the first request to the last answer.
        operations_per_s: texts answered a second, in 10^9 operations of the encoder's matrix products.
        cores: CPU seconds a second of the contestant's processes.
        client_cores: the same of this process: the clients.
    """

    row: str
    round: int
    sentences_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    answered: int
    failed: int
    failure: str
    seconds: float
    operations_per_s: float
    cores: float
    client_cores: float


def measure(
    entry: Entry, workload: Workload, number: int, *, clients: int, seconds: float, operations: Sequence[float]
) -> tuple[Block, list[tuple[int, str]]]:
    """The block, and its answers as (index of the text, label). Every contestant begins a round at the same text.

    Args:
        entry: is up.
        workload: with the texts.
        number: of the round.
        clients: callers at once, of a contestant that takes one text a call.
        seconds: how long calls begin; a contestant that takes lists gets one that should take as long.
        operations: of the model for each text.
    """
    time.sleep(PAUSE_S)
    first = _first_text(number, len(workload.texts))
    own_cpu_s, cpu_s = _own_cpu_s(), entry.cpu_s()
    assert entry.answerer is not None
    if isinstance(entry.answerer, BulkAnswerer):
        answered = _in_one_call(entry.answerer, workload.texts, first, entry.per_s * seconds)
    else:
        answered = closed(entry.answerer.classify, workload.texts, clients, seconds, first)
    block = Block(
        entry.contestant.name,
        number,
        answered.per_s,
        percentile(answered.latencies_ms, 0.50) if answered.latencies_ms else None,
        percentile(answered.latencies_ms, 0.99) if answered.latencies_ms else None,
        len(answered.answers),
        len(answered.failures),
        answered.failures[0] if answered.failures else "",
        answered.elapsed_s,
        sum(operations[index] for index, _ in answered.answers) / answered.elapsed_s / 1e9,
        (entry.cpu_s() - cpu_s) / answered.elapsed_s,
        (_own_cpu_s() - own_cpu_s) / answered.elapsed_s,
    )
    entry.per_s = block.sentences_per_s or entry.per_s
    return block, answered.answers


def _first_text(number: int, texts: int) -> int:
    """Rounds begin at different texts, at the start of a group."""
    return (number * 8 * GROUP) % (texts // GROUP * GROUP)


def _in_one_call(answerer: BulkAnswerer, texts: Sequence[str], first: int, wanted: float) -> Answered:
    """As many texts as wanted, in whole groups, so that their lengths are those of all texts; at most all, 4 times."""
    count = max(1, math.ceil(min(wanted, 4 * len(texts)) / GROUP)) * GROUP
    indices = [(first + number) % len(texts) for number in range(count)]
    asked = [texts[index] for index in indices]
    answered = Answered()
    started = time.perf_counter()
    labels = answerer.classify_all(asked)
    answered.elapsed_s = time.perf_counter() - started
    answered.answers = list(zip(indices, labels, strict=True))
    return answered


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
