"""A running server takes other versions, and goes back, while requests come in; what does not fit is refused."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from export.repository import ModelRepository
from server.control.withdrawn import write_withdrawn
from tests.e2e import triton
from tests.e2e.backend_models import WORDS, bag_graph, probabilities, write_tokenizer
from tests.e2e.server_command import FREE_PORTS, RECOVERY_TIMEOUT_S, Command
from tests.tiny_repository import publish

MODEL = "sentiment"
PLAIN_WORDS = [word for word in WORDS if word.startswith("w") and word[1:].isdigit()]
CHANGE_TIMEOUT_S = 120.0


def export(repository: ModelRepository, **what: object) -> int:
    """A new version, whose answers `probabilities` knows."""
    version = repository.next_version(MODEL)
    return publish(
        repository,
        MODEL,
        precisions=("fp32",),
        fill=lambda folder: bag_graph(folder / "model.onnx", version),
        fill_text=lambda folder: write_tokenizer(folder / "tokenizer.json"),
        **what,
    )


class Load:
    """Requests over both protocols, from connections that are kept, each answer held to the version that it names."""

    def __init__(self, http_url: str, grpc_address: str) -> None:
        self._http_address, self._grpc_address = http_url.removeprefix("http://"), grpc_address
        self.answers: Counter[str] = Counter()
        self.problems: list[str] = []
        self._enough = threading.Event()
        workers = (self._over_http, self._over_http, self._over_grpc, self._over_grpc)
        self._threads = [threading.Thread(target=worker, args=(seed,)) for seed, worker in enumerate(workers)]

    @contextmanager
    def going_on(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in self._threads:
                thread.join()

    def more(self, version: int, count: int = 50) -> None:
        """Waits until a version has given so many more answers."""
        wanted = self.answers[str(version)] + count
        triton.eventually(
            lambda: self.answers[str(version)] >= wanted or bool(self.problems), 60.0, f"{count} answers of {version}"
        )

    def _ask(self, seed: int, answer: Callable[[str], tuple[str, np.ndarray]]) -> None:
        choose = random.Random(seed)
        while not self._enough.is_set():
            text = " ".join(choose.choices(PLAIN_WORDS, k=choose.randint(1, 10)))
            try:
                version, given = answer(text)
            except Exception as exc:  # noqa: BLE001 -- whatever it is, it is a request that was lost
                self.problems.append(f"{type(exc).__name__}: {exc}")
                continue
            if not np.allclose(given, probabilities(text, int(version), 128), atol=1e-3):
                self.problems.append(f"{text!r}: version {version} answered {given}, a mixture")
            self.answers[version] += 1

    def _over_http(self, seed: int) -> None:
        with closing(http.client.HTTPConnection(self._http_address, timeout=60)) as connection:

            def answer(text: str) -> tuple[str, np.ndarray]:
                tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
                connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}))
                response = connection.getresponse()
                body = json.loads(response.read())
                assert response.status == 200, body
                outputs = {output["name"]: output["data"] for output in body["outputs"]}
                return body["model_version"], np.array(outputs["PROBABILITIES"])

            self._ask(seed, answer)

    def _over_grpc(self, seed: int) -> None:
        with closing(triton_grpc.InferenceServerClient(self._grpc_address)) as client:

            def answer(text: str) -> tuple[str, np.ndarray]:
                tensor = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
                result = client.infer(MODEL, [tensor], client_timeout=60)
                return result.get_response().model_version, result.as_numpy("PROBABILITIES")[0]

            self._ask(seed, answer)


class Served:
    """A server with ``--control``, and how it is told to change."""

    def __init__(self, folder: Path, repository: ModelRepository, *more: str) -> None:
        self.folder, self.control = folder, folder / "control"
        flags = (f"--model-repository={repository.path}", f"--control={self.control}", *more, *FREE_PORTS)
        self.command = Command(folder, *flags)
        self.url = self.command.wait_until_ready()
        (grpc,) = re.findall(r"grpc grpc://([\d.:]+)", self.command.ready_lines()[0])
        self.grpc = grpc

    def tell(self, *words: str) -> tuple[int, str]:
        """``python -m server reload`` and the like: exit code, and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "server", *words, f"--control={self.control}"],
            cwd=triton.REPOSITORY_ROOT,
            capture_output=True,
            text=True,
            timeout=CHANGE_TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def version(self) -> str:
        """The version that answers."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        with closing(connection):
            tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["w1"]}
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}))
            return str(json.loads(connection.getresponse().read())["model_version"])


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    repository = ModelRepository(tmp_path / "model_repository")
    export(repository)
    return repository


@pytest.fixture
def started() -> Iterator[Callable[..., Served]]:
    servers: list[Served] = []

    def start(folder: Path, repository: ModelRepository, *more: str) -> Served:
        servers.append(Served(folder, repository, *more))
        return servers[-1]

    yield start
    for server in servers:
        with suppress(ProcessLookupError):
            server.command.process.kill()
        server.command.process.wait()


def test_versions_change_under_load_and_nothing_is_lost(
    started: Callable[..., Served], repository: ModelRepository, tmp_path: Path
) -> None:
    server = started(tmp_path, repository)
    load = Load(server.url, server.grpc)
    with load.going_on():
        load.more(1)
        export(repository)
        load.more(1)  # an export alone changes nothing
        assert load.answers["2"] == 0

        code, said = server.tell("reload")
        assert code == 0, said
        assert re.match(r"sentiment_fp32: 1 -> 1, 2, sentiment: 1 -> 2 in \d+\.\d s\n$", said)
        load.more(2)

        code, said = server.tell("rollback", MODEL)
        assert code == 0, said
        assert "sentiment: 2 -> 1" in said
        load.more(1)

        # --- What is refused leaves what was served ---
        export(repository)  # version 3
        onnx = repository.path / "sentiment_fp32" / "3" / "model.onnx"
        sound = onnx.read_bytes()
        onnx.write_bytes(sound[:-1] + b"?")
        code, said = server.tell("reload")
        assert code == 1
        assert re.search(r"sentiment_fp32/3/model\.onnx was changed since it was exported: its SHA-256 is", said)
        load.more(1)
        onnx.write_bytes(sound)

        labels = ("bad", "good")
        assert export(repository, labels=labels, allow_labels=True) == 4
        code, said = server.tell("reload")
        assert code == 1
        assert "version 4 of sentiment is refused: its labels are bad, good, those of version 1 are negative, " in said
        load.more(1)
        shutil.rmtree(repository.path / MODEL / "4")

        code, said = server.tell("reload")
        assert code == 0, said
        assert "sentiment: 1 -> 3" in said
        assert "version 2 of sentiment was rolled back from and is not served again" in said
        load.more(3)
    assert load.problems == []
    assert set(load.answers) == {"1", "2", "3"}

    # --- What was rolled back from is not served again after a crash ---
    code, said = server.tell("rollback", MODEL, "--to", "1")
    assert code == 0, said
    code, said = server.tell("versions")
    assert re.search(r"^sentiment  serves 1  has 1, 2, 3  rolled back from 2, 3$", said, re.MULTILINE), said
    os.kill(server.command.triton_pid(), signal.SIGKILL)
    triton.eventually(lambda: len(server.command.ready_lines()) == 2, RECOVERY_TIMEOUT_S, "recovery")
    assert server.version() == "1"
    assert server.command.end() == 0
    assert server.command.leftovers() == []
    assert not (server.control / "control.sock").exists()


def test_a_version_that_triton_cannot_load_is_refused_in_its_words(
    started: Callable[..., Served], repository: ModelRepository, tmp_path: Path
) -> None:
    export(repository)
    (tmp_path / "control").mkdir(mode=0o700)
    write_withdrawn(tmp_path / "control", {MODEL: {2}})  # by a rollback before this start
    server = started(tmp_path, repository, "--max-restarts=2")
    assert server.version() == "1"
    said = server.tell("rollback", MODEL)[1]
    assert said == "server: error: sentiment serves version 1 and has no older one (it has 1, 2)\n"
    publish(
        repository,
        MODEL,
        precisions=("fp32",),
        fill=lambda folder: (folder / "model.onnx").write_bytes(b"no graph"),
        fill_text=lambda folder: write_tokenizer(folder / "tokenizer.json"),
    )
    code, said = server.tell("reload")
    assert code == 1
    assert re.search(
        r"Triton refused model sentiment_fp32: .*model\.onnx.*; what was served before goes on$", said.strip()
    )
    assert server.version() == "1"
    with closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200, "whoever asks must not take it out of service"
    # A backend process dies: what was served comes back, not what was refused.
    os.kill(triton.backend_processes(server.command.triton_pid())[0], signal.SIGKILL)
    triton.eventually(lambda: len(server.command.ready_lines()) == 2, RECOVERY_TIMEOUT_S, "recovery")
    assert server.version() == "1"

    # A file that changes while it is served is not served again.
    tokenizer = repository.path / MODEL / "1" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    os.kill(server.command.triton_pid(), signal.SIGKILL)
    assert server.command.process.wait(RECOVERY_TIMEOUT_S) == 1
    assert any(
        re.search(r"1/tokenizer\.json was changed since it was exported", line) for line in server.command.ours()
    )
