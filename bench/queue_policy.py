"""What a queue policy costs in this Triton: requests that stall for half a second, and throughput.

With a ``default_queue_policy`` (a maximum size or a timeout) Triton's batcher does not prefetch; a request that arrives
while the instance is finishing its last one can miss the wake-up and lie there until the batcher looks again, 500 ms
later (``default_wait_microseconds`` in core's dynamic_batch_scheduler.cc). This counts how often.

The demo model is served without its cache, with the policy on no model, on the text model, and on both, in turn.
Run it with ``make bench-queue-policy``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import cpu_name, put
from bench.models import DEMO, demo_without_cache, read_config, write_config
from bench.models import DEMO_MODEL as MODEL
from bench.models import DEMO_TENSOR_MODEL as TENSOR_MODEL
from bert_triton_client import Client
from bert_triton_client.labelled import read_texts
from server import TritonServer

STALLED_MS = 400.0
# name -> the models with the policy, instances of the text model
VARIANTS: dict[str, tuple[tuple[str, ...], int]] = {
    "none": ((), 1),
    "text model": ((MODEL,), 1),
    "text model, 2 instances": ((MODEL,), 2),
    "both models": ((MODEL, TENSOR_MODEL), 1),
}


@dataclass(frozen=True)
class Run:
    """One variant, one number of clients."""

    variant: str
    clients: int
    requests: int
    stalled: int
    requests_per_s: float
    p50_ms: float


def repository_with(policy_on: tuple[str, ...], text_instances: int, folder: Path) -> Path:
    """The demo repository without its cache, its queue policies as asked."""
    demo_without_cache(folder)
    for name in (MODEL, TENSOR_MODEL):
        config = read_config(folder, name)
        if name == MODEL:
            config.instance_group[0].count = text_instances
        config.dynamic_batching.ClearField("default_queue_policy")
        if name in policy_on:
            policy = config.dynamic_batching.default_queue_policy
            policy.max_queue_size = 1000
            policy.default_timeout_microseconds = 30_000_000
            policy.allow_timeout_override = True
        write_config(folder, name, config)
    return folder


def measure(variant: str, client: Client, texts: list[str], clients: int) -> Run:
    """Every text once, one text a request."""
    load = put(client.classify, texts, clients)
    stalled = sum(latency_ms >= STALLED_MS for latency_ms in load.latencies_ms)
    return Run(variant, clients, len(texts), stalled, load.per_s, statistics.median(load.latencies_ms))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue_policy", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=1000, help="per variant, clients and round")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    texts = read_texts(DEMO / "test.csv")[: options.requests]
    runs: list[Run] = []
    for number in range(options.rounds):
        for variant, (policy_on, text_instances) in VARIANTS.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                TritonServer(repository_with(policy_on, text_instances, Path(folder) / "repository")) as server,
                Client(server.grpc_url, model=MODEL) as client,
            ):
                client.classify(texts[:20])
                runs += [measure(variant, client, texts, clients) for clients in options.clients]
            print(f"round {number + 1} of {options.rounds}: policy on {variant}", file=sys.stderr)
    print(f"demo model, int8, cache off; one text a request; {cpu_name()}; {time.strftime('%Y-%m-%d')}\n")
    print("| queue policy on | clients | requests | stalled over 400 ms | requests/s | p50 ms |")
    print("|---|---|---|---|---|---|")
    for clients in options.clients:
        for variant in VARIANTS:
            own = [run for run in runs if (run.variant, run.clients) == (variant, clients)]
            print(
                f"| {variant} | {clients} | {sum(run.requests for run in own)} | {sum(run.stalled for run in own)} "
                f"| {statistics.median(run.requests_per_s for run in own):.0f} "
                f"| {statistics.median(run.p50_ms for run in own):.2f} |"
            )


if __name__ == "__main__":
    main()
