"""What the load test itself costs: the latency it adds and the rate that one process reaches, per protocol.

Against a trivial model (it answers with the text it was given), so that little but the generator and Triton's own way
in and out is measured. At one user the reference is NVIDIA's ``perf_analyzer`` in turn on the same server: the
difference of the median latencies is what ours adds. With many users one generator process is driven as far as it goes;
both share the machine's cores with the server. Run it with ``make bench-generator``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import loadtest_cell, perf_analyzer
from bench.load import cpu_name
from bench.result import publish
from server import TritonServer

MODEL = "trivial"
CONFIG = f"""
backend: "{MODEL}"
max_batch_size: 8
input [{{ name: "TEXT" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "LABEL" data_type: TYPE_STRING dims: [1] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""
BACKEND = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        texts = [pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("LABEL", text)]) for text in texts]
"""
WORDS = 18  # of every text, on both sides
# Lengths that do not vary, so that both sides send the same.
SAME_LENGTH = ("--median-words", str(WORDS), "--sigma", "0")
INPUTS = ({"TEXT": [" ".join(["water"] * WORDS)]},)


@dataclass(frozen=True)
class Cost:
    """One protocol; medians over rounds, the difference taken within a round first.

    Attributes:
        perf_analyzer_p50_ms: one request at a time.
        p50_ms: the load test's, one user.
        added_ms: the difference.
        users: of the runs for the rate.
        requests_per_s: of one generator process.
        perf_analyzer_requests_per_s: with as many requests at once.
        cpu_ms: the generator's CPU time of a request, at that rate.
        verdict: of the last cell for the rate.
    """

    protocol: str
    perf_analyzer_p50_ms: float
    p50_ms: float
    added_ms: float
    users: int
    requests_per_s: float
    perf_analyzer_requests_per_s: float
    cpu_ms: float
    verdict: str


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator_cost", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration-s", type=float, default=6.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--users", type=int, default=16, help="for the largest rate (default: %(default)s)")
    options = parser.parse_args()
    perf_analyzer.install()
    with tempfile.TemporaryDirectory(prefix="bench_generator_") as folder:
        repository, backends = _trivial_model(Path(folder))
        with TritonServer(repository, backends=backends) as server:
            costs = [
                _measure(protocol, url, server.metrics_url, options)
                for protocol, url in (("gRPC", server.grpc_url), ("HTTP", server.http_url))
            ]
    method = (
        f"trivial Python-backend model, texts of {WORDS} words; {options.rounds} rounds of {options.duration_s:g} s; "
        f"generator and server on the same {cpu_name()}; {time.strftime('%Y-%m-%d')}"
    )
    publish("bench-generator", method, table(costs), costs)


def _trivial_model(folder: Path) -> tuple[Path, Path]:
    """A repository with the model, and the folder with its backend."""
    repository, backends = folder / "repository", folder / "backends"
    (repository / MODEL / "1").mkdir(parents=True)
    (repository / MODEL / "config.pbtxt").write_text(CONFIG)
    (backends / MODEL).mkdir(parents=True)
    (backends / MODEL / "model.py").write_text(BACKEND)
    return repository, backends


def _measure(protocol: str, url: str, metrics_url: str, options: argparse.Namespace) -> Cost:
    def ours(users: int) -> loadtest_cell.Cell:
        flags = ["--metrics-url", metrics_url, *SAME_LENGTH]
        return loadtest_cell.run(url, MODEL, batch_size=1, users=users, duration_s=options.duration_s, flags=flags)

    def theirs(concurrency: int) -> perf_analyzer.Report:
        window_s = options.duration_s / perf_analyzer.WINDOWS
        return perf_analyzer.run(url, MODEL, INPUTS, batch_size=1, concurrency=concurrency, window_s=window_s)

    ones = _in_turn(lambda: ours(1), lambda: theirs(1), options.rounds)
    print(f"  {protocol}: one user done", file=sys.stderr)
    many = _in_turn(lambda: ours(options.users), lambda: theirs(options.users), options.rounds)
    print(f"  {protocol}: {options.users} users done", file=sys.stderr)
    return Cost(
        protocol,
        statistics.median(theirs.p50_ms for _, theirs in ones),
        statistics.median(ours.p50_ms for ours, _ in ones),
        statistics.median(ours.p50_ms - theirs.p50_ms for ours, theirs in ones),
        options.users,
        statistics.median(ours.requests_per_s for ours, _ in many),
        statistics.median(theirs.requests_per_s for _, theirs in many),
        statistics.median(ours.cpu_ms for ours, _ in many),
        many[-1][0].verdict,
    )


def _in_turn(
    ours: Callable[[], loadtest_cell.Cell], theirs: Callable[[], perf_analyzer.Report], rounds: int
) -> list[tuple[loadtest_cell.Cell, perf_analyzer.Report]]:
    """Both, A B B A …, as pairs of a round."""
    pairs = []
    for number in range(rounds):
        if number % 2 == 0:
            first = ours()
            pairs.append((first, theirs()))
        else:
            second = theirs()
            pairs.append((ours(), second))
    return pairs


def table(costs: list[Cost]) -> str:
    """One row a protocol."""
    lines = [
        "| protocol | p50 ms, 1 user: perf_analyzer | loadtest | added ms | users | requests/s of one process "
        "| perf_analyzer | generator's CPU ms/request |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.protocol} | {cost.perf_analyzer_p50_ms:.2f} | {cost.p50_ms:.2f} | {cost.added_ms:+.2f} "
        f"| {cost.users} | {cost.requests_per_s:,.0f} | {cost.perf_analyzer_requests_per_s:,.0f} | {cost.cpu_ms:.2f} |"
        for cost in costs
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
