"""Where the time of a request goes, in microseconds a stage, and how long an answer from the cache takes under load.

The demo model is served with its cache on, and asked over gRPC by one client and by many, one new text a request. What
Triton counts (its statistics, and the metrics of ``bert_text``) is taken as a difference over each load. The stages
inside ``bert_text`` are timed in this process: its own functions on the same texts, in batches of the size that the
load had. What is left of the client's time is the hops between processes and threads: it is a remainder, and says so.

Then one client asks for a known text, over gRPC and over HTTP, alone and while the others keep the model busy. Run it
with ``make bench-stages``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.bert_text import texts as rules
from backends.bert_text.cache import TextCache, digest
from backends.bert_text.decode import Decoder
from backends.bert_text.execution import Executor
from backends.bert_text.settings import Settings
from backends.bert_text.tokenise import Tokeniser, Tokens
from backends.bert_text.version_folder import read_labels, tokenizer_path
from bench import metrics
from bench.load import cpu_name, put
from bench.models import DEMO, DEMO_MODEL, DEMO_REPOSITORY, newest_version, read_config
from bench.result import publish
from bert_triton_client import Client
from bert_triton_client.labelled import read_texts
from server import TritonServer

METRICS = ("executions", "executed_texts", "queue_duration_us", "request_duration_us", "tokens")
METRICS_DELAY_S = 0.6  # bert_text tells Triton its counts a fraction of a second later
WARM_UP_TEXTS = 40


@dataclass(frozen=True)
class Row:
    """A stage: mean microseconds of a request, with one client and with many; ``how`` it is known."""

    stage: str
    one_us: float
    many_us: float
    how: str


@dataclass(frozen=True)
class Cached:
    """Answers from the cache while ``others`` load the model."""

    protocol: str
    others: int
    p50_us: float
    p99_us: float
    busy_texts_per_s: float


def new_texts(sentences: Sequence[str]) -> Iterator[str]:
    """The sentences again and again, none twice."""
    number = 0
    while True:
        for sentence in sentences:
            number += 1
            yield f"{sentence} {number}"


class Counters:
    """What the server has counted of the text model and its tensor model.

    Args:
        server: the running server.
        client: of the text model.
        tensor_model: its tensor model.
    """

    def __init__(self, server: TritonServer, client: Client, tensor_model: str) -> None:
        self._server = server
        self._client = client
        self._tensor_model = tensor_model

    def read(self) -> dict[str, float]:
        """Sums so far, by name; times in microseconds."""
        time.sleep(METRICS_DELAY_S)
        counted: dict[str, float] = {}
        for name, model in (("text", DEMO_MODEL), ("tensor", self._tensor_model)):
            own = self._client.statistics(model)
            for step in ("queue", "compute_input", "compute_infer", "compute_output"):
                counted[f"{name} {step}"] = sum(getattr(row, step).total_ns for row in own) / 1000
            counted[f"{name} requests"] = sum(row.requests for row in own)
        page = metrics.read(self._server)
        for metric in METRICS:
            counted[metric] = metrics.total(page, f"bert_text_{metric}_total", DEMO_MODEL)
        return counted


@dataclass(frozen=True)
class Load:
    """A load, all per request and in microseconds.

    Attributes:
        wall_us: mean at the client.
        client_us: CPU time of the client's thread.
        counted: what the server counted meanwhile, by name, a request.
        batch: mean texts of an execution; 0 without any.
    """

    wall_us: float
    client_us: float
    counted: dict[str, float]
    batch: float


def measure(counters: Counters, client: Client, texts: Sequence[str], clients: int) -> Load:
    """Every text once."""
    cpu_us: list[float] = []

    def classify(text: str) -> None:
        started = time.thread_time()
        client.classify(text)
        cpu_us.append((time.thread_time() - started) * 1e6)

    before = counters.read()
    load = put(classify, texts, clients)
    after = counters.read()
    grown = {name: after[name] - before[name] for name in after}
    batch = grown["executed_texts"] / grown["executions"] if grown["executions"] else 0.0
    return Load(
        statistics.mean(load.latencies_ms) * 1000,
        statistics.mean(cpu_us),
        {name: value / len(texts) for name, value in grown.items()},
        batch,
    )


class Inside:
    """The stages inside ``bert_text``, timed in this process on the files that the server serves."""

    def __init__(self, repository: Path) -> None:
        config = read_config(repository, DEMO_MODEL)
        folder = newest_version(repository, DEMO_MODEL)
        values = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
        self.settings = settings = Settings.from_model_config(
            {"name": DEMO_MODEL, "max_batch_size": config.max_batch_size, "parameters": values}
        )
        labels = read_labels(folder)
        self._tokeniser = Tokeniser(
            tokenizer_path(folder), settings.max_length, truncate=settings.over_long_text == "truncate"
        )
        self._decoder = Decoder(settings.task, labels, settings.activation)
        self._logits = np.zeros((settings.max_batch_size, len(labels)), dtype=np.float32)
        self._executor = Executor(settings, self._decoder, lambda inputs, _: self._logits[: len(inputs["input_ids"])])

    def stages(self, sentences: Sequence[str], batch: int) -> dict[str, float]:
        """Median microseconds a text of each stage, ``batch`` texts at a time."""
        cache: TextCache[int] = TextCache(10_000)
        taken: dict[str, list[float]] = {}
        names = self.settings.task.output_names

        def timed(stage: str, work: Callable[[], object]) -> None:
            started = time.perf_counter()
            work()
            taken.setdefault(stage, []).append((time.perf_counter() - started) * 1e6 / batch)

        for first in range(0, len(sentences) - batch + 1, batch):
            part = list(sentences[first : first + batch])
            raw = [text.encode() for text in part]
            timed("read", lambda raw=raw: [rules.read(text, self.settings.max_text_bytes) for text in raw])  # type: ignore[misc]
            timed("cache", lambda raw=raw: [cache.get(digest(text)) for text in raw])  # type: ignore[misc]
            rows = [tokens for tokens in self._tokeniser.encode(part) if isinstance(tokens, Tokens)]
            timed("tokenise", lambda part=part: self._tokeniser.encode(part))  # type: ignore[misc]
            timed("tensors", lambda rows=rows: self._executor.inputs(rows))  # type: ignore[misc]
            values = self._decoder.values(self._logits[:1])
            timed("decode", lambda rows=rows: self._decoder.values(self._logits[: len(rows)]))  # type: ignore[misc]
            for _ in range(batch):
                timed("outputs", lambda values=values: self._decoder.outputs(values, names))  # type: ignore[misc]
        taken["outputs"] = [us * batch for us in taken["outputs"]]  # of one request each
        return {stage: statistics.median(us) for stage, us in taken.items()}


def stage_table(inside: Inside, sentences: Sequence[str], cached: Load, one: Load, many: Load) -> list[Row]:
    """The rows; the stages of each column add up to its total."""

    def column(load: Load) -> list[float]:
        own = inside.stages(sentences, max(1, round(load.batch)))
        counted = load.counted
        in_triton = counted["text queue"], counted["text compute_input"], counted["text compute_output"]
        # From the client to execute and back is the same for an answer from the cache, at one client.
        cached_in_triton = sum(cached.counted[f"text {step}"] for step in ("queue", *_COMPUTE))
        way_us = cached.wall_us - cached_in_triton - cached.client_us
        tensor = [counted[f"tensor {step}"] for step in ("queue", *_COMPUTE)]
        executions = counted["executions"]  # a request
        # What the tensor model counts is of an execution; every text in it waits that long.
        scale = 1 / executions if executions else 0.0
        known = [
            load.client_us,
            way_us,
            sum(in_triton),
            own["read"],
            own["cache"],
            counted["queue_duration_us"],
            own["tokenise"] * load.batch,
            own["tensors"] * load.batch,
            tensor[0] * scale,
            sum(tensor[1:]) * scale,
            own["decode"] * load.batch,
            own["outputs"],
        ]
        # A text is tokenised while it waits.
        known[5] = max(0.0, known[5] - known[6])
        return [*known, load.wall_us - sum(known), load.wall_us]

    ones, manys = column(one), column(many)
    return [Row(stage, a, b, how) for (stage, how), a, b in zip(_STAGES, ones, manys, strict=True)]


_COMPUTE = ("compute_input", "compute_infer", "compute_output")
_STAGES = (
    ("client: encode, decode, its side of gRPC", "CPU time of its thread"),
    ("gRPC, to Triton and back", "an answer from the cache, less what client and Triton count of it"),
    ("Triton: queue and copies of the text model", "Triton's statistics"),
    ("bert_text: read the text", "in process"),
    ("bert_text: digest and cache", "in process"),
    ("bert_text: wait for an execution", "its metrics, less tokenising"),
    ("bert_text: tokenise the execution's texts", "in process"),
    ("bert_text: build the tensors", "in process"),
    ("tensor model: queue", "Triton's statistics, an execution"),
    ("tensor model: compute", "Triton's statistics, an execution"),
    ("bert_text: decode the execution", "in process"),
    ("bert_text: outputs of the request", "in process"),
    ("hops: execute, BLS call, response", "what is left"),
    ("total", "at the client"),
)


def cached_beside(server: TritonServer, texts: Iterator[str], clients: int, requests: int) -> list[Cached]:
    """Both protocols, one client each in a process of its own, while ``clients`` others ask for new texts."""
    lock, done = threading.Lock(), threading.Event()
    answered = [0]
    rows = []
    # A thread of this process would wait for the others' turns with the interpreter, not for the server.
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as asker,
        Client(server.grpc_url, model=DEMO_MODEL) as busy,
    ):

        def keep_busy() -> None:
            while not done.is_set():
                with lock:
                    text = next(texts)
                busy.classify(text)
                answered[0] += 1

        threads = [threading.Thread(target=keep_busy) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            for protocol, url in (("gRPC", server.grpc_url), ("HTTP", server.http_url)):
                asker.submit(ask_for_known, url, requests // 10).result()  # its imports, its connection's cost
                before, started = answered[0], time.perf_counter()
                latencies_ms = asker.submit(ask_for_known, url, requests).result()
                per_s = (answered[0] - before) / (time.perf_counter() - started)
                p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99])
                rows.append(Cached(protocol, clients, p50_ms * 1000, p99_ms * 1000, per_s))
        finally:
            done.set()
            for thread in threads:
                thread.join()
    return rows


def ask_for_known(url: str, requests: int) -> list[float]:
    """Milliseconds of each of so many requests for one text, which is in the cache from the first on."""
    known = "A text that everybody asks for."
    with Client(url, model=DEMO_MODEL) as client:
        client.classify(known)
        return put(client.classify, [known] * requests, 1).latencies_ms


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clients", type=int, default=16, metavar="N")
    parser.add_argument("--texts", type=int, default=300, help="with one client; with many, as many each again")
    parser.add_argument("--cached", type=int, default=2000, metavar="N", help="requests for a known text")
    options = parser.parse_args()
    sentences = read_texts(DEMO / "test.csv")
    texts = new_texts(sentences)

    def some(number: int) -> list[str]:
        return [next(texts) for _ in range(number)]

    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        tensor_model = read_config(DEMO_REPOSITORY, DEMO_MODEL).parameters["tensor_model"].string_value
        for name in (DEMO_MODEL, tensor_model):
            shutil.copytree(DEMO_REPOSITORY / name, repository / name)
        inside = Inside(repository)
        with TritonServer(repository) as server, Client(server.grpc_url, model=DEMO_MODEL) as client:
            counters = Counters(server, client, tensor_model)
            put(client.classify, some(WARM_UP_TEXTS), 4)
            known = some(options.texts)
            one = measure(counters, client, known, 1)
            cached = measure(counters, client, known, 1)
            many = measure(counters, client, some(4 * options.texts), options.clients)
            print("  stages measured", file=sys.stderr)
            rows = stage_table(inside, sentences[: options.texts], cached, one, many)
            hits = [
                row for others in (0, options.clients) for row in cached_beside(server, texts, others, options.cached)
            ]
    method = (
        f"demo model, {tensor_model}, one new movie sentence a request over gRPC, {many.counted['tokens']:.0f} tokens "
        f"a text; mean microseconds of a request; with {options.clients} clients an execution held {many.batch:.1f} "
        f"texts; {cpu_name()}; {time.strftime('%Y-%m-%d')}"
    )
    lines = [f"| stage | 1 client | {options.clients} clients | known from |", "|---|---|---|---|"]
    lines += [f"| {row.stage} | {row.one_us:.0f} | {row.many_us:.0f} | {row.how} |" for row in rows]
    lines += [
        "",
        "| answer from the cache | other clients | p50 µs | p99 µs | others' texts/s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.protocol} | {row.others} | {row.p50_us:.0f} | {row.p99_us:.0f} | {row.busy_texts_per_s:.0f} |"
        for row in hits
    ]
    publish("bench-stages", method, "\n".join(lines), [*rows, *hits])


if __name__ == "__main__":
    main()
