"""The server's side of a window: what was asked in it is exactly what is counted, and what cannot be read says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_triton_client import Client
from loadtest import target
from loadtest.access import Access
from loadtest.cell import ServerSide, TensorNames
from loadtest.errors import UsageError
from loadtest.server_side import counters
from server import TritonServer
from tests.e2e import triton

# A TCP proxy under the name of one that forwards to other machines.
FORWARDER = """
import ctypes, socket, sys, threading
ctypes.CDLL(None).prctl(15, b"kubectl", 0, 0, 0)
def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    here, _ = listener.accept()
    there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def inspect(url: str, model: str = "sentiment", access: Access | None = None) -> target.Target:
    return target.inspect(url, model, names=TensorNames(text="TEXT"), access=access or Access())


def watch(url: str, metrics_url: str | None, **options: Any) -> counters.Watch:
    return counters.Watch(inspect(url), Access(), metrics_url, **options)


def stopped(one: counters.Watch) -> ServerSide:
    side = one.stop()
    assert side is not None, one.problem
    return side


def ask(client: Client, texts: list[str]) -> None:
    """A request for each."""
    for text in texts:
        client.classify(text)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_is_asked_in_the_window_is_what_is_counted(demo_server: TritonServer, protocol: str) -> None:
    url = demo_server.grpc_url if protocol == "grpc" else demo_server.http_url
    watching = watch(url, demo_server.metrics_url)
    with Client(url) as client:
        ask(client, [f"before the window, number {i}, over {protocol}" for i in range(5)])
        watching.start()
        began_s = time.monotonic()
        ask(client, [f"a text of its own, number {i}, over {protocol}" for i in range(20)])
        client.classify([f"one of four of one request, {i}, over {protocol}" for i in range(4)])
        side = stopped(watching)
        window_s = time.monotonic() - began_s
        ask(client, [f"after the window, over {protocol}"])
    assert watching.problem == ""
    text, tensors = side.models
    assert (text.model, text.version, tensors.model) == ("sentiment", "1", "sentiment_int8")
    assert (text.requests, text.inferences, text.failures) == (21, 24, 0)
    assert 21 <= text.executions <= 24
    assert tensors.inferences == tensors.executions == text.executions  # its batch is a dim: a request counts as one
    assert side.cache_hits == side.text_cache_hits == 0
    assert side.tokens is not None
    assert 24 * 8 < side.tokens < 24 * 40
    assert side.padding_tokens is not None
    assert side.padding_tokens < side.tokens
    # The model's own time lies within the text model's, and all of it within the window. The texts of one request may
    # be computed by both instances at once.
    assert 0 < tensors.compute_infer_ms * tensors.requests < 2 * text.compute_infer_ms * text.requests
    assert text.compute_infer_ms * text.requests < 1e3 * window_s
    assert text.queue_ms > 0  # as it counts itself: waiting, then all the rest
    assert text.compute_input_ms == text.compute_output_ms == 0
    assert side.device == "CPU"
    assert side.utilisation is not None
    assert 0.01 < side.utilisation <= 1
    assert side.memory_bytes is not None
    assert 100e6 < side.memory_bytes < 8e9


def test_the_text_caches_hits_are_seen(demo_server: TritonServer) -> None:
    watching = watch(demo_server.grpc_url, demo_server.metrics_url)
    with Client(demo_server.grpc_url) as client:
        watching.start()
        ask(client, ["the very same text"] * 6)
        side = stopped(watching)
    assert side.text_cache_hits == side.cache_hits == 5
    assert side.models[0].requests == 6
    assert side.models[1].requests == 1


def test_an_idle_window_is_zeros(demo_server: TritonServer) -> None:
    watching = watch(demo_server.grpc_url, demo_server.metrics_url, server_pid=demo_server.pid)
    watching.start()
    side = stopped(watching)
    assert [one.requests for one in side.models] == [0, 0]
    assert (side.tokens, side.text_cache_hits) == (0, 0)
    assert side.models[0].mean_batch_size == 0
    assert side.utilisation is not None
    assert side.utilisation < 0.5


def test_a_tensor_model_is_watched_alone(demo_server: TritonServer) -> None:
    asked = target.inspect(demo_server.grpc_url, "sentiment_int8", names=TensorNames(), access=Access())
    watching = counters.Watch(asked, Access(), demo_server.metrics_url)
    watching.start()
    with Client(demo_server.grpc_url) as client:
        ask(client, ["one for the tensor model", "another for the tensor model"])
    side = stopped(watching)
    assert [(one.model, one.requests) for one in side.models] == [("sentiment_int8", 2)]
    assert (side.text_cache_hits, side.tokens, side.padding_tokens) == (None, None, None)


@pytest.mark.parametrize("metrics_url", [None, "http://127.0.0.1:1/metrics"])
def test_without_metrics_the_rest_is_there(demo_server: TritonServer, metrics_url: str | None) -> None:
    watching = watch(demo_server.grpc_url, metrics_url)
    watching.start()
    with Client(demo_server.grpc_url) as client:
        ask(client, [f"without metrics {i} {metrics_url}" for i in range(3)])
    side = stopped(watching)
    assert side.models[0].requests == 3
    assert (side.text_cache_hits, side.tokens, side.padding_tokens) == (None, None, None)
    assert side.utilisation is not None
    assert watching.problem.startswith("the server's metrics cannot be read: ")
    if metrics_url is None:
        assert "--metrics-url" in watching.problem


@pytest.fixture(scope="module")
def two_versions(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory, echo_backends: Path
) -> TritonServer:
    """A server with two versions of the echo model."""
    repository = triton.write_model(
        tmp_path_factory.mktemp("two_versions"),
        "echo",
        config=f"{triton.ECHO_CONFIG}version_policy {{{{ all {{{{}}}} }}}}\n",
    )
    (repository / "echo" / "2").mkdir()
    return module_server_factory(repository, backends=echo_backends)


def test_metrics_of_another_server_are_refused(demo_server: TritonServer, two_versions: TritonServer) -> None:
    watching = watch(demo_server.grpc_url, two_versions.metrics_url)
    watching.start()
    assert stopped(watching).tokens is None
    assert "it is that of another server" in watching.problem


def test_urls_and_processes_that_cannot_be_are_usage_errors(demo_server: TritonServer) -> None:
    with pytest.raises(UsageError, match="--metrics-url"):
        watch(demo_server.grpc_url, "localhost:8002")
    with pytest.raises(UsageError, match="--server-pid"):
        watch(demo_server.grpc_url, demo_server.metrics_url, server_pid=2**22 + 1)


def test_a_window_that_never_began_is_none(demo_server: TritonServer) -> None:
    watching = watch(demo_server.grpc_url, demo_server.metrics_url)
    assert watching.stop() is None
    assert "not read when the window began" in watching.problem


@pytest.fixture
def echo_server(
    server_factory: Callable[..., TritonServer], echo_repository: Path, echo_backends: Path
) -> Callable[..., TritonServer]:
    def start(*extra_args: str) -> TritonServer:
        return server_factory(echo_repository, backends=echo_backends, extra_args=extra_args)

    return start


def test_a_server_that_is_killed_in_the_window(echo_server: Callable[..., TritonServer]) -> None:
    server = echo_server()
    urls = (server.grpc_url, server.http_url)
    watches = [counters.Watch(inspect(url, "echo"), Access(), server.metrics_url) for url in urls]
    for watching in watches:
        watching.start()
    triton.infer(server.http_url, "hello")
    os.kill(server.pid, signal.SIGKILL)
    for url, watching in zip(urls, watches, strict=True):
        started = time.monotonic()
        assert watching.stop() is None
        assert time.monotonic() - started < 60
        assert "the server's statistics cannot be read" in watching.problem
        assert counters.Watch(inspect_dead(url), Access(), None).stop() is None


def inspect_dead(url: str) -> target.Target:
    """What was known of a server that is no more."""
    return target.Target(url, "echo", "1", target.TEXT_KIND, (), (), 8)


def test_a_model_that_is_loaded_anew_in_the_window(echo_server: Callable[..., TritonServer]) -> None:
    server = echo_server("--model-control-mode=explicit", "--load-model=echo")
    watching = counters.Watch(inspect(server.grpc_url, "echo"), Access(), server.metrics_url)
    for _ in range(3):
        triton.infer(server.http_url)
    watching.start()
    request = urllib.request.Request(f"{server.http_url}/v2/repository/models/echo/unload", b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=60):
        pass
    triton.eventually(lambda: not triton.answers(server.http_url), 60, "the unloading")
    assert triton.load(server.http_url, "echo") == ""
    triton.infer(server.http_url)
    assert watching.stop() is None
    assert "went down from 3 to 1" in watching.problem


def test_restricted_statistics_need_their_key(echo_server: Callable[..., TritonServer]) -> None:
    server = echo_server(
        "--http-restricted-api=statistics:pass=word", "--grpc-restricted-protocol=statistics:pass=word"
    )
    for url, key in ((server.grpc_url, "triton-grpc-protocol-pass"), (server.http_url, "pass")):
        for headers in ({}, {key: "word"}):
            access = Access(headers=headers)
            watching = counters.Watch(inspect(url, "echo", access), access, server.metrics_url)
            watching.start()
            triton.infer(server.http_url)
            side = watching.stop()
            assert (side is not None) == bool(headers)
            assert ("--header" in watching.problem) == (not headers)
            if side:
                assert side.models[0].requests == 1


def test_only_the_version_that_is_asked_is_counted_and_others_are_told(two_versions: TritonServer) -> None:
    server = two_versions
    asked = target.inspect(server.http_url, "echo", version="1", names=TensorNames(text="TEXT"), access=Access())
    watching = counters.Watch(asked, Access(), server.metrics_url)
    watching.start()
    for version in (1, 2, 2, 2):
        triton.infer(server.http_url, model=f"echo/versions/{version}")
    side = stopped(watching)
    assert [(one.version, one.requests) for one in side.models] == [("1", 1)]
    assert watching.problem == "version 2 of 'echo' answered 3 requests in the same time"


@pytest.fixture
def forwarder() -> Iterator[Callable[[int], int]]:
    started: list[subprocess.Popen[str]] = []

    def start(port: int) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", FORWARDER, str(port)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        started.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_behind_a_forwarder_the_cpu_is_what_the_server_says(
    demo_server: TritonServer, forwarder: Callable[[int], int]
) -> None:
    port = forwarder(int(demo_server.grpc_url.rpartition(":")[2]))
    watching = watch(f"grpc://127.0.0.1:{port}", demo_server.metrics_url)
    watching.start()
    with Client(f"grpc://127.0.0.1:{port}") as client:
        ask(client, [f"through a forwarder {i}" for i in range(3)])
    side = stopped(watching)
    assert side.models[0].requests == 3
    assert side.device == "CPU"
    assert side.memory_bytes is None
    assert side.utilisation is not None
    assert 0 <= side.utilisation <= 1
    assert "forwarded by kubectl" in watching.problem
    assert "whole machine" in watching.problem
