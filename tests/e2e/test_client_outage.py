"""The server dies under load and comes back: typed errors in time, and the same client goes on."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import bert_triton_client as btc
from server import TritonServer
from tests.e2e import client_models, triton

DEADLINE_S = 2.0
MARGIN_S = 10.0  # of a busy machine; without deadlines a call takes 30 s
PATIENCE_S = 60.0


class Load:
    """Threads that ask without pause and note what came of it."""

    def __init__(self, ask: Sequence[Callable[[], Any]]) -> None:
        self.errors: list[BaseException] = []
        self.slowest_s = 0.0
        self.answers = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(one,)) for one in ask]

    def _work(self, ask: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                ask()
                self.answers += 1
            except Exception as exc:  # noqa: BLE001  # the test looks at what it was
                self.errors.append(exc)
                time.sleep(0.02)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads)


def asked(client: btc.Client, texts: list[str], timeout_s: float = DEADLINE_S) -> None:
    assert client.classify("a", timeout_s=timeout_s).label == "a"
    assert [answer.label for answer in client.classify(texts, timeout_s=timeout_s)] == texts


def asked_one(client: Any, timeout_s: float = DEADLINE_S) -> None:
    assert client.classify("a", timeout_s=timeout_s).label == "a"


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """A server that is there again after every test."""
    repository, backends = client_models.write(tmp_path_factory.mktemp("outage"))
    return module_server_factory(repository, backends=backends, models=["sentiment"])


def test_a_server_killed_under_load_and_started_again(server: TritonServer) -> None:
    texts = [f"text {i}" for i in range(300)]
    with (
        btc.Client(server.grpc_url) as grpc,
        btc.Client(server.http_url) as http,
        client_models.connect(server, "async-grpc") as async_grpc,
        client_models.connect(server, "async-http") as async_http,
    ):
        clients = [grpc, http, async_grpc, async_http]
        for client in clients:
            client.classify("a")

        def work(timeout_s: float) -> list[Callable[[], Any]]:
            many = [functools.partial(asked, client, texts, timeout_s) for client in (grpc, http) for _ in range(3)]
            return [*many, *(functools.partial(asked_one, client, timeout_s) for client in (async_grpc, async_http))]

        with Load(work(DEADLINE_S)) as load:
            triton.eventually(lambda: load.answers > 20, PATIENCE_S, "an answer")
            server.end_processes()
            triton.eventually(lambda: len(load.errors) > 20, PATIENCE_S, "an error")
        kinds = {type(error) for error in load.errors}
        assert kinds <= {btc.ServerUnreachableError, btc.DeadlineExceededError}, load.errors
        assert load.slowest_s < 2 * DEADLINE_S + MARGIN_S  # two calls a round

        server.restart()
        for client in clients:
            client.wait_until_ready(PATIENCE_S)
            asked_one(client, PATIENCE_S)
        with Load(work(PATIENCE_S)) as load:
            triton.eventually(lambda: load.answers > 20 or load.errors != [], PATIENCE_S, "an answer")
        assert load.errors == []


def test_a_restart_between_two_calls_is_not_noticed(server: TritonServer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_models.connect(server, kind)) for kind in client_models.CLIENTS]
        for client in clients:
            assert client.classify("a").label == "a"
        server.restart()
        for client in clients:
            assert client.classify("a").label == "a"
            assert len(client.classify(["a"] * 300)) == 300
