"""What serving adds to the model: text in, label out through Triton, against the same ONNX file called in process.

    A  in process: tokenise, run, softmax (one text a call)
    B  through Triton: the project's client, text model, tensor model (one text a request), gRPC and HTTP

A and B take turns in blocks on the same texts, A B B' A B B' ..., so that a noisy neighbour meets all of them.
At one client: latency, median per block, then the median over blocks of B - A. At many clients: texts per second.
Run it with ``make bench-overhead``.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.in_process import InProcessModel
from bench.load import cpu_name, put
from bench.models import DEMO, NAME, bert_base_repository
from bench.result import publish
from bert_triton_client import Client
from bert_triton_client.labelled import read_texts
from server import TritonServer

WARM_UP_TEXTS = 10
PAUSE_S = 0.05  # between blocks: the other side's spinning threads go to sleep


@dataclass(frozen=True)
class Block:
    """One side's share of a round.

    Attributes:
        way: who answered.
        clients: callers at once.
        latency_ms: median of one call.
        texts_per_s: throughput of the block.
        own_cpu_ms: CPU time of the benchmark's own process per text: the client's where a server computes.
    """

    way: str
    clients: int
    latency_ms: float
    texts_per_s: float
    own_cpu_ms: float


def measure(way: str, classify: Callable[[str], object], texts: Sequence[str], clients: int) -> Block:
    """Every text once, by ``clients`` threads."""
    time.sleep(PAUSE_S)
    cpu_s = own_cpu_s()
    load = put(classify, texts, clients)
    return Block(
        way,
        clients,
        statistics.median(load.latencies_ms),
        load.per_s,
        (own_cpu_s() - cpu_s) * 1000 / len(texts),
    )


def own_cpu_s() -> float:
    """CPU seconds of this process and its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rounds_of(ways: dict[str, Callable[[str], object]], texts: list[str], clients: int, rounds: int) -> list[Block]:
    """All ways in turn, ``rounds`` times, each round on texts of its own."""
    for classify in ways.values():
        for text in texts[:WARM_UP_TEXTS]:
            classify(text)
    size = len(texts) // rounds
    blocks = []
    for number in range(rounds):
        part = texts[number * size : (number + 1) * size]
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        blocks += [measure(way, ways[way], part, clients) for way in order]
        print(f"  {clients} client(s): round {number + 1} of {rounds}", file=sys.stderr)
    return blocks


@dataclass(frozen=True)
class Row:
    """One way at one number of clients, over all rounds; ``None`` where it is the reference itself."""

    way: str
    clients: int
    latency_ms: float
    added_ms: float | None
    texts_per_s: float
    throughput_ratio: float | None
    own_cpu_ms: float


def summary(blocks: list[Block], reference: str) -> list[Row]:
    """Medians over rounds; differences and ratios are taken within a round first."""
    by_way: dict[str, list[Block]] = {}
    for block in blocks:
        by_way.setdefault(block.way, []).append(block)
    base = by_way[reference]

    def row(way: str, own: list[Block]) -> Row:
        pairs = list(zip(own, base, strict=True))
        compared = way != reference
        return Row(
            way,
            own[0].clients,
            statistics.median(block.latency_ms for block in own),
            statistics.median(block.latency_ms - other.latency_ms for block, other in pairs) if compared else None,
            statistics.median(block.texts_per_s for block in own),
            statistics.median(block.texts_per_s / other.texts_per_s for block, other in pairs) if compared else None,
            statistics.median(block.own_cpu_ms for block in own),
        )

    return [row(way, own) for way, own in by_way.items()]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| clients | way | p50 ms | added ms | texts/s | / in process | own CPU ms/text |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        added = "" if row.added_ms is None else f"{row.added_ms:+.2f}"
        ratio = "" if row.throughput_ratio is None else f"{row.throughput_ratio:.2f}"
        lines.append(
            f"| {row.clients} | {row.way} | {row.latency_ms:.2f} | {added} | {row.texts_per_s:.1f} | {ratio} "
            f"| {row.own_cpu_ms:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts-per-round", type=int, default=96)
    options = parser.parse_args()

    texts = read_texts(DEMO / "test.csv")[: options.rounds * options.texts_per_round]
    repository = bert_base_repository(options.precision)
    threads = len(os.sched_getaffinity(0))
    model = InProcessModel(repository, NAME, options.precision, threads)
    in_process = "in process"
    rows: list[Row] = []
    with (
        TritonServer(repository) as server,
        Client(server.grpc_url, model=NAME) as grpc,
        Client(server.http_url, model=NAME) as http,
    ):
        ways: dict[str, Callable[[str], object]] = {
            in_process: model.classify,
            "Triton, gRPC": grpc.classify,
            "Triton, HTTP": http.classify,
        }
        wrong = [text for text in texts[:50] if grpc.classify(text).label != model.classify(text)]
        if wrong:
            sys.exit(f"the server and the model in process disagree on {len(wrong)} of 50 texts: not comparable")
        for clients in options.clients:
            rows += summary(rounds_of(ways, texts, clients, options.rounds), in_process)
    words = statistics.median(len(text.split()) for text in texts)
    method = (
        f"BERT-base shapes (random weights), {options.precision}, {threads} threads; {options.rounds} rounds of "
        f"{options.texts_per_round} movie sentences (median {words:.0f} words), one text a call; {cpu_name()}; "
        f"{time.strftime('%Y-%m-%d')}"
    )
    publish("bench-overhead", method, table(rows), rows)


if __name__ == "__main__":
    main()
