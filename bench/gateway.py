"""What the gateway adds: the same Triton asked directly, and through the gateway with TLS, a key and counted limits.

    A  the project's client ──────────────────────► Triton
    B  the project's client ──TLS──► the gateway ──► Triton

Over HTTP and gRPC, at one client and at many; A and B take turns on the same texts, A B B A ..., so that a noisy
neighbour meets both. Differences and ratios are taken within a round, then the median over rounds. The trivial model
computes nothing, so that a request costs little but its way; ``--model demo`` is the demo model without its cache.
Client, gateway and Triton share the machine's cores, so with many clients the ratio of the rates says what the
gateway's share of them is; its CPU time of a request says how many requests one core of it passes on.
Run it with ``make bench-gateway``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.compare.server_process import free_port, serving
from bench.load import closed, cpu_name, percentile
from bench.models import DEMO, DEMO_MODEL, demo_without_cache
from bench.result import publish
from bert_triton_client import Client, TLSConfig
from bert_triton_client.labelled import read_texts
from server import TritonServer
from server.backend_directory import BACKENDS

KEY = "bench-gateway-0123456789"
WARM_UP_TEXTS = 50
PAUSE_S = 0.05  # between blocks: what one side has begun is done
START_TIMEOUT_S = 30.0
DIRECT, THROUGH = "direct", "gateway"

TRIVIAL_CONFIG = """
backend: "trivial"
max_batch_size: 64
input [{ name: "TEXT" data_type: TYPE_STRING dims: [1] }]
output [
  { name: "LABEL" data_type: TYPE_STRING dims: [1] },
  { name: "SCORE" data_type: TYPE_FP32 dims: [1] },
  { name: "PROBABILITIES" data_type: TYPE_FP32 dims: [2] }
]
instance_group [{ kind: KIND_CPU count: 1 }]
parameters { key: "task" value: { string_value: "text-classification" } }
"""
TRIVIAL_BACKEND = """
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb.get_input_tensor_by_name(request, "TEXT").as_numpy()) for request in requests]

    def answer(self, texts):
        scores = np.full((len(texts), 2), 0.5, np.float32)
        tensors = (("LABEL", texts), ("SCORE", scores[:, 1:]), ("PROBABILITIES", scores))
        return pb.InferenceResponse([pb.Tensor(*tensor) for tensor in tensors])
"""


@dataclass(frozen=True)
class Block:
    """One way's share of a round.

    Attributes:
        p50_ms, p99_ms: of a call.
        per_s: answers a second.
        nginx_us: nginx's CPU time of a request; 0 where it is not asked.
        rest_us: of the gateway's other processes: what counts the log, and what watches.
        failures: calls that failed.
    """

    p50_ms: float
    p99_ms: float
    per_s: float
    nginx_us: float
    rest_us: float
    failures: int


@dataclass(frozen=True)
class Row:
    """One protocol at one number of clients: medians over rounds."""

    protocol: str
    clients: int
    direct_p50_ms: float
    added_p50_ms: float
    direct_p99_ms: float
    added_p99_ms: float
    direct_per_s: float
    per_s_ratio: float
    nginx_us: float
    rest_us: float
    failures: int


def trivial(folder: Path) -> tuple[Path, Path]:
    """A repository with a model that answers with its text, and the folder with its backend."""
    repository, backends = folder / "repository", folder / "backends"
    (repository / DEMO_MODEL / "1").mkdir(parents=True)
    (repository / DEMO_MODEL / "config.pbtxt").write_text(TRIVIAL_CONFIG)
    (backends / "trivial").mkdir(parents=True)
    (backends / "trivial" / "model.py").write_text(TRIVIAL_BACKEND)
    return repository, backends


def demo(folder: Path) -> tuple[Path, Path]:
    """The demo model without its cache, on this project's backends."""
    return demo_without_cache(folder / "repository"), BACKENDS


MODELS: dict[str, Callable[[Path], tuple[Path, Path]]] = {"trivial": trivial, "demo": demo}


class Gateway:
    """One gateway that lets everybody with the key ask as often as they like.

    Args:
        pid: of the process that watches nginx and mtail.
        port: where it listens, on this machine alone.
        certificate: its own, self-signed.
    """

    def __init__(self, pid: int, port: int, certificate: Path) -> None:
        self._process = psutil.Process(pid)
        self._port = port
        self._certificate = certificate

    def client(self, protocol: str) -> Client:
        """The project's client."""
        scheme = {"http": "https", "grpc": "grpcs"}[protocol]
        headers, tls = {"authorization": f"Bearer {KEY}"}, TLSConfig(ca_certificates=self._certificate)
        return Client(f"{scheme}://localhost:{self._port}", model=DEMO_MODEL, headers=headers, tls=tls)

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds so far: of nginx, and of the rest."""
        nginx = rest = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            used = sum(process.cpu_times()[:2])
            if process.name() == "nginx":
                nginx += used
            else:
                rest += used
        return nginx, rest


@contextmanager
def gateway_before(server: TritonServer, folder: Path) -> Iterator[Gateway]:
    """A gateway in front of a Triton, while it is up."""
    (folder / "keys").write_text(f"bench {KEY}\n")
    # The path of a Unix socket is short.
    with tempfile.TemporaryDirectory(prefix="gateway_") as state:
        port, certificate = free_port(), Path(state) / "certificate.pem"
        environment = {
            "GATEWAY_MODELS": DEMO_MODEL,
            "GATEWAY_TRITONS": f"127.0.0.1:{server.endpoints.http_port}:{server.endpoints.grpc_port}",
            "GATEWAY_API_KEYS": str(folder / "keys"),
            "GATEWAY_CERTIFICATE": "self-signed",
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(free_port()),
            "GATEWAY_STATE_FOLDER": state,
            # Counted like any limit, and never reached.
            "GATEWAY_RATE_PER_MINUTE": "1000000",
            "GATEWAY_RATE_BURST": "100000",
            "GATEWAY_CONCURRENT_PER_IP": "1000",
        }

        def answers() -> None:
            with Client(
                f"https://localhost:{port}",
                model=DEMO_MODEL,
                headers={"authorization": f"Bearer {KEY}"},
                tls=TLSConfig(ca_certificates=certificate),
            ) as client:
                client.classify("ready?")

        command = [sys.executable, "-m", "deploy.gateway"]
        with serving(command, answers, environment=environment, timeout_s=START_TIMEOUT_S) as pid:
            yield Gateway(pid, port, certificate)


def measure(client: Client, gateway: Gateway | None, texts: list[str], clients: int, seconds: float) -> Block:
    """A closed load for so long; ``gateway`` where it is on the way."""
    time.sleep(PAUSE_S)
    nginx_s, rest_s = gateway.cpu_s() if gateway else (0.0, 0.0)
    load = closed(lambda text: client.classify(text).label, texts, clients, seconds, 0)
    nginx_end_s, rest_end_s = gateway.cpu_s() if gateway else (0.0, 0.0)
    if not load.answers:
        sys.exit(f"nothing was answered: {load.failures[0]}")
    return Block(
        percentile(load.latencies_ms, 0.5),
        percentile(load.latencies_ms, 0.99),
        load.per_s,
        (nginx_end_s - nginx_s) * 1e6 / len(load.answers),
        (rest_end_s - rest_s) * 1e6 / len(load.answers),
        len(load.failures),
    )


def row(protocol: str, clients: int, rounds: list[dict[str, Block]]) -> Row:
    """The medians of the rounds."""

    def median(value: Callable[[Block, Block], float]) -> float:
        return statistics.median(value(blocks[DIRECT], blocks[THROUGH]) for blocks in rounds)

    return Row(
        protocol,
        clients,
        median(lambda direct, _: direct.p50_ms),
        median(lambda direct, through: through.p50_ms - direct.p50_ms),
        median(lambda direct, _: direct.p99_ms),
        median(lambda direct, through: through.p99_ms - direct.p99_ms),
        median(lambda direct, _: direct.per_s),
        median(lambda direct, through: through.per_s / direct.per_s),
        median(lambda _, through: through.nginx_us),
        median(lambda _, through: through.rest_us),
        sum(block.failures for blocks in rounds for block in blocks.values()),
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| protocol | clients | direct p50 ms | added | direct p99 ms | added | direct requests/s | gateway / direct "
        "| nginx, CPU µs/request | rest of the gateway | failed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.protocol} | {row.clients} | {row.direct_p50_ms:.2f} | {row.added_p50_ms:+.2f} "
        f"| {row.direct_p99_ms:.2f} | {row.added_p99_ms:+.2f} | {row.direct_per_s:,.0f} | {row.per_s_ratio:.2f} "
        f"| {row.nginx_us:.0f} | {row.rest_us:.0f} | {row.failures} |"
        for row in rows
    ]
    return "\n".join(lines)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="trivial", choices=tuple(MODELS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one way in a round (default: %(default)s)")
    return parser


def main() -> None:
    """Measure, print, write."""
    options = arguments().parse_args()
    texts = read_texts(DEMO / "test.csv")
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench_gateway_") as name:
        repository, backends = MODELS[options.model](Path(name))
        with TritonServer(repository, backends=backends) as server, gateway_before(server, Path(name)) as gateway:
            for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
                with Client(url, model=DEMO_MODEL) as direct, gateway.client(protocol) as through:
                    ways = {DIRECT: (direct, None), THROUGH: (through, gateway)}
                    for client, _ in ways.values():
                        client.classify(texts[:WARM_UP_TEXTS])
                    for clients in options.clients:
                        rounds = []
                        for number in range(options.rounds):
                            order = list(ways) if number % 2 == 0 else list(reversed(ways))
                            rounds.append({way: measure(*ways[way], texts, clients, options.seconds) for way in order})
                        rows.append(row(protocol, clients, rounds))
                        print(f"  {protocol}, {clients} client(s): done", file=sys.stderr)
    words = statistics.median(len(text.split()) for text in texts)
    method = (
        f"{options.model} model; {options.rounds} rounds of {options.seconds:g} s a way, movie sentences (median "
        f"{words:.0f} words), one text a request; client, gateway (2 workers) and Triton on the same {cpu_name()}; "
        f"{time.strftime('%Y-%m-%d')}"
    )
    publish(f"bench-gateway-{options.model}", method, table(rows), rows)


if __name__ == "__main__":
    main()
