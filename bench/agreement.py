"""Does the load test measure right? It and NVIDIA's ``perf_analyzer`` on one server, with one load, in turn.

Each setting is measured by both, A B B A …, closed workload: the same model, protocol, concurrency and batch size,
requests of the same make. What is reported is the median over rounds of the ratio within a round. Run it with
``make bench-agreement``.

The demo's models compute, so a busy neighbour shows in both tools' figures. The sleeper does not: it takes a set time
for a request and serves one at a time, and what the tools find of it differs by the tools alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import loadtest_cell, perf_analyzer
from bench.load import cpu_name
from bench.models import DEMO, DEMO_MODEL, DEMO_TENSOR_MODEL, demo_without_cache
from bench.result import publish
from bert_triton_client.labelled import read_texts
from server import TritonServer

GOAL = 0.10  # of throughput and p99
SEQUENCE_LENGTH = 32
TEXTS = 2000
# The load test makes every text distinct by five words of its own; the other side's texts get as many.
MORE_WORDS = ("time", "people", "water", "house", "night", "music", "letter", "garden")


SLEEPER = "sleeper"
SLEEPER_CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "TEXT" data_type: TYPE_STRING dims: [1] }]
output [{ name: "LABEL" data_type: TYPE_STRING dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
SLEEPER_MODEL = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            time.sleep(0.02)
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LABEL", texts)]))
        return responses
"""


@dataclass(frozen=True)
class Load:
    """One setting of the comparison."""

    protocol: str
    model: str
    users: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.model}, {self.protocol}, {self.users} at once, batch size {self.batch_size}"


LOADS = (
    Load("grpc", DEMO_MODEL, 1, 1),
    Load("grpc", DEMO_MODEL, 16, 1),
    Load("http", DEMO_MODEL, 4, 1),
    Load("grpc", DEMO_MODEL, 1, 8),
    Load("grpc", DEMO_TENSOR_MODEL, 1, 1),
    Load("grpc", DEMO_TENSOR_MODEL, 4, 8),
    Load("grpc", SLEEPER, 1, 1),
    Load("grpc", SLEEPER, 8, 1),
    Load("http", SLEEPER, 8, 1),
)
MODELS = tuple(dict.fromkeys(load.model for load in LOADS))


@dataclass(frozen=True)
class Pair:
    """Both tools in one round."""

    load: Load
    ours: loadtest_cell.Cell
    theirs: perf_analyzer.Report

    @property
    def throughput_ratio(self) -> float:
        """Ours / perf_analyzer's."""
        return self.ours.requests_per_s / self.theirs.requests_per_s

    @property
    def p50_ratio(self) -> float:
        """Ours / perf_analyzer's."""
        return self.ours.p50_ms / self.theirs.p50_ms

    @property
    def p99_ratio(self) -> float:
        """Ours / perf_analyzer's."""
        return self.ours.p99_ms / self.theirs.p99_ms


def main() -> int:
    """Measure, print, write; 1 if a median ratio is further than `GOAL` from one."""
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration-s", type=float, default=9.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="(default: all)")
    options = parser.parse_args()
    perf_analyzer.install()
    with tempfile.TemporaryDirectory(prefix="bench_agreement_") as folder:
        texts = Path(folder) / "texts.txt"
        texts.write_text("\n".join(read_texts(DEMO / "test.csv")[:TEXTS]) + "\n")
        with TritonServer(_repository(Path(folder) / "repository")) as server:
            pairs = [
                pair
                for number in range(options.rounds)
                for load in LOADS
                if load.model in options.models
                for pair in [_pair(load, server, texts, options.duration_s, ours_first=number % 2 == 0)]
            ]
    method = (
        f"demo model, INT8, cache off; closed workload; {options.rounds} rounds of {options.duration_s:g} s a tool; "
        f"texts are movie sentences, tensors {SEQUENCE_LENGTH} tokens; {cpu_name()}; {time.strftime('%Y-%m-%d')}"
    )
    publish("bench-agreement", method, table(pairs), pairs)
    return 0 if all(_agrees(group) for group in _by_load(pairs).values()) else 1


def _repository(folder: Path) -> Path:
    """The demo without its cache, and the sleeper."""
    demo_without_cache(folder)
    (folder / SLEEPER / "1").mkdir(parents=True)
    (folder / SLEEPER / "config.pbtxt").write_text(SLEEPER_CONFIG)
    (folder / SLEEPER / "1/model.py").write_text(SLEEPER_MODEL)
    return folder


def _pair(load: Load, server: TritonServer, texts: Path, duration_s: float, *, ours_first: bool) -> Pair:
    url = {"grpc": server.grpc_url, "http": server.http_url}[load.protocol]
    flags = ["--metrics-url", server.metrics_url]
    if load.model != DEMO_TENSOR_MODEL:
        flags += ["--texts", str(texts)]
    else:
        flags += ["--sequence-length", str(SEQUENCE_LENGTH)]
    ours: list[loadtest_cell.Cell] = []
    theirs: list[perf_analyzer.Report] = []

    def measure_ours() -> None:
        ours.append(
            loadtest_cell.run(
                url, load.model, batch_size=load.batch_size, users=load.users, duration_s=duration_s, flags=flags
            )
        )

    def measure_theirs() -> None:
        theirs.append(
            perf_analyzer.run(
                url,
                load.model,
                _inputs(load.model, texts),
                batch_size=load.batch_size,
                concurrency=load.users,
                window_s=duration_s / perf_analyzer.WINDOWS,
            )
        )

    order: list[Callable[[], None]] = [measure_ours, measure_theirs]
    for measure in order if ours_first else reversed(order):
        measure()
    pair = Pair(load, ours[0], theirs[0])
    print(f"  {load}: x{pair.throughput_ratio:.3f}, p99 x{pair.p99_ratio:.3f}", file=sys.stderr)
    return pair


def _inputs(model: str, texts: Path) -> Sequence[Mapping[str, object]]:
    """Rows as perf_analyzer takes them."""
    draw = random.Random(0)
    if model != DEMO_TENSOR_MODEL:
        return [
            {"TEXT": [f"{text} {' '.join(draw.choices(MORE_WORDS, k=5))}"]} for text in texts.read_text().splitlines()
        ]
    names = {"input_ids": None, "attention_mask": 1, "token_type_ids": 0}
    return [
        {name: {"content": _row(draw, value), "shape": [SEQUENCE_LENGTH]} for name, value in names.items()}
        for _ in range(200)
    ]


def _row(draw: random.Random, value: int | None) -> list[int]:
    return [draw.randrange(1000, 30000) if value is None else value for _ in range(SEQUENCE_LENGTH)]


def _by_load(pairs: Sequence[Pair]) -> dict[Load, list[Pair]]:
    groups: dict[Load, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.load, []).append(pair)
    return groups


def _agrees(group: Sequence[Pair]) -> bool:
    return all(abs(_median(group, name) - 1) <= GOAL for name in ("throughput_ratio", "p99_ratio"))


def _median(group: Sequence[Pair], name: str) -> float:
    return statistics.median(getattr(pair, name) for pair in group)


def table(pairs: Sequence[Pair]) -> str:
    """One row a load: both tools' medians, and the medians of the ratios with their range over rounds."""
    lines = [
        "| load | requests/s: loadtest | perf_analyzer | ratio "
        "| p99 ms: loadtest | perf_analyzer | ratio | p50 ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load, group in _by_load(pairs).items():
        ours_per_s = statistics.median(pair.ours.requests_per_s for pair in group)
        theirs_per_s = statistics.median(pair.theirs.requests_per_s for pair in group)
        ours_p99 = statistics.median(pair.ours.p99_ms for pair in group)
        theirs_p99 = statistics.median(pair.theirs.p99_ms for pair in group)
        lines.append(
            f"| {load} | {ours_per_s:.1f} | {theirs_per_s:.1f} | {_ratio(group, 'throughput_ratio')} "
            f"| {ours_p99:.1f} | {theirs_p99:.1f} | {_ratio(group, 'p99_ratio')} | {_ratio(group, 'p50_ratio')} |"
        )
    return "\n".join(lines)


def _ratio(group: Sequence[Pair], name: str) -> str:
    values = [getattr(pair, name) for pair in group]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
