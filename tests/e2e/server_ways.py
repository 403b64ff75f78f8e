"""Three ways to change versions of a running server, each under the same load: what callers notice.

``python -m tests.e2e.server_ways`` prints the table of docs/versions.md; it takes minutes and is no test. The load is
that of `test_server_versions`: four callers over HTTP and gRPC, each answer held to the version that it names, a model
of a few kilobytes. Beside them somebody asks for readiness, as load balancers do. Each way goes from version 1 to 2,
back to 1, and to 3.

polling   Triton looks at the repository every second; the way back is a version policy
load-api  post to /v2/repository/models/…/load: the tensor model, then the text model; the policy likewise
reload    python -m server reload | rollback
"""

from __future__ import annotations

import argparse
import functools
import http.client
import json
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.repository import ModelRepository
from server import TritonServer
from tests.e2e import triton
from tests.e2e.test_server_versions import MODEL, Load, Served, export

TENSOR_MODEL = f"{MODEL}_fp32"
CALM_S = 3.0
TIMEOUT_S = 60.0
POLICY = re.compile(r"version_policy \{.*?\n\}\n", re.DOTALL)
LATEST, FIRST = "latest {\n    num_versions: 1\n  }", "specific {\n    versions: 1\n  }"
ASKING_EVERY_S = 0.02
Way = Callable[[Path, ModelRepository], Iterator[tuple[str, str, Callable[[int], None]]]]


class TimedLoad(Load):
    """`Load` that keeps when each request was sent, and for how long it was waited for."""

    def __init__(self, http_url: str, grpc_address: str) -> None:
        super().__init__(http_url, grpc_address)
        self.times_s: list[tuple[float, float]] = []

    def _ask(self, seed: int, answer: Callable[[str], tuple[str, np.ndarray]]) -> None:
        def timed(text: str) -> tuple[str, np.ndarray]:
            sent_s = time.monotonic()
            try:
                return answer(text)
            finally:
                self.times_s.append((sent_s, time.monotonic() - sent_s))

        super()._ask(seed, timed)

    def longest_ms(self, start_s: float, end_s: float) -> float:
        """Of the requests that were under way in that time."""
        return 1e3 * max(took for sent, took in self.times_s if sent < end_s and sent + took > start_s)


@dataclass
class Readiness:
    """Asks /v2/health/ready all the time; how often the answer was not 200."""

    address: str
    asked: int = 0
    refused: int = 0
    _enough: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _run(self) -> None:
        with closing(http.client.HTTPConnection(self.address, timeout=TIMEOUT_S)) as connection:
            while not self._enough.wait(ASKING_EVERY_S):
                connection.request("GET", "/v2/health/ready")
                response = connection.getresponse()
                response.read()
                self.asked += 1
                self.refused += response.status != http.client.OK


def set_policy(repository: ModelRepository, policy: str) -> None:
    """Edits the text model's config as a person would."""
    config = repository.path / MODEL / "config.pbtxt"
    config.write_text(POLICY.sub(f"version_policy {{\n  {policy}\n}}\n", config.read_text()))


def in_the_repository(repository: ModelRepository, version: int) -> None:
    """Has the repository select a version."""
    set_policy(repository, FIRST if version == 1 else LATEST)
    if version != 1:
        export(repository)


@contextmanager
def library(folder: Path, repository: ModelRepository, *flags: str) -> Iterator[TritonServer]:
    """A server whose Triton reads the repository itself."""
    server = TritonServer(repository.path, extra_args=flags, exit_timeout_s=1, log_path=folder / "log")
    with server:
        yield server


def polling(folder: Path, repository: ModelRepository) -> Iterator[tuple[str, str, Callable[[int], None]]]:
    with library(folder, repository, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        yield server.http_url, server.grpc_url, lambda version: in_the_repository(repository, version)


def load_api(folder: Path, repository: ModelRepository) -> Iterator[tuple[str, str, Callable[[int], None]]]:
    models = (TENSOR_MODEL, MODEL)
    loaded = [f"--load-model={model}" for model in models]
    with library(folder, repository, "--model-control-mode=explicit", *loaded) as server:

        def change(version: int) -> None:
            in_the_repository(repository, version)
            for model in models:
                url = f"{server.http_url}/v2/repository/models/{model}/load"
                urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST")).close()

        yield server.http_url, server.grpc_url, change


def reload(folder: Path, repository: ModelRepository) -> Iterator[tuple[str, str, Callable[[int], None]]]:
    served = Served(folder, repository)

    def change(version: int) -> None:
        if version != 1:
            export(repository)
        code, said = served.tell("rollback", MODEL) if version == 1 else served.tell("reload")
        assert code == 0, said

    try:
        yield served.url, served.grpc, change
    finally:
        served.command.end()


WAYS: dict[str, Way] = {"polling": polling, "load-api": load_api, "reload": reload}


def measure(name: str, folder: Path) -> str:
    """One way's row."""
    repository = ModelRepository(folder / "model_repository")
    export(repository)
    with contextmanager(WAYS[name])(folder, repository) as (url, grpc, change):
        load, readiness = TimedLoad(url, grpc.removeprefix("grpc://")), Readiness(url.removeprefix("http://"))
        changes = []
        with load.going_on(), readiness.going_on():
            load.more(1, 200)
            calm_s = time.monotonic()
            time.sleep(CALM_S)
            calm_ms = load.longest_ms(calm_s, time.monotonic())
            for version in (2, 1, 3):
                started_s = time.monotonic()
                change(version)
                triton.eventually(functools.partial(answers, url, version), TIMEOUT_S, "the change")
                time.sleep(CALM_S)  # what comes after the first answer of a version belongs to the change
                changes.append((time.monotonic() - started_s - CALM_S, load.longest_ms(started_s, time.monotonic())))
    for problem in sorted(set(load.problems)):
        sys.stderr.write(f"{name}: {problem}\n")
    requests = sum(load.answers.values())
    took = " / ".join(f"{seconds:.1f}" for seconds, _ in changes)
    longest = " / ".join(f"{milliseconds:.0f}" for _, milliseconds in changes)
    cells = (name, f"{requests:,}", len(load.problems), took, f"{calm_ms:.0f}", longest)
    return "| " + " | ".join(map(str, (*cells, f"{readiness.refused} of {readiness.asked}"))) + " |"


def answers(url: str, version: int) -> bool:
    """Whether a new request gets that version's answer."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)) as connection:
        tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["w1"]}
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}))
        return bool(json.loads(connection.getresponse().read())["model_version"] == str(version))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.server_ways", description=__doc__.split("\n", 1)[0])
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}; all by default")
    ways = parser.parse_args().ways or WAYS
    if unknown := [way for way in ways if way not in WAYS]:
        parser.error(f"unknown way {unknown[0]!r}, expected one of {', '.join(WAYS)}")
    print("| way | answers | lost or mixed | s until it answers | longest request before, ms | … during | not ready |")
    print("|---|---|---|---|---|---|---|")
    for name in ways:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, Path(folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
