"""A stop waits for those who are connected, over either protocol, and for no longer than it may."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from server import TritonServer
from tests.e2e.backend_models import write_backends, write_tensor_model, write_text_model
from tests.e2e.triton import eventually, infer

MARGIN_S = 60.0


@pytest.fixture
def serve(server_factory: Callable[..., TritonServer], tmp_path: Path) -> Callable[[int], TritonServer]:
    """Starts a server whose stop may take so many seconds."""

    def start(exit_timeout_s: int) -> TritonServer:
        repository, backends = tmp_path / "repository", tmp_path / "backends"
        backends.mkdir()
        write_tensor_model(repository, "slow", backend="slow")
        write_text_model(repository, "text", "slow")
        return server_factory(repository, backends=write_backends(backends), exit_timeout_s=exit_timeout_s)

    return start


def test_what_came_over_grpc_is_answered_before_the_models_go(serve: Callable[[int], TritonServer]) -> None:
    server = serve(int(MARGIN_S))  # it ends when the client goes, long before
    client = triton_grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))

    def ask(text: str) -> bytes:
        tensor = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        return bytes(client.infer("text", [tensor], client_timeout=60).as_numpy("LABEL")[0, 0])

    ask("good")
    before = received(client)
    with ThreadPoolExecutor(4) as pool:
        in_flight = [pool.submit(ask, f"wait0.5s w{number}") for number in range(4)]
        eventually(lambda: received(client) == before + 4, MARGIN_S, "the requests' arrival")
        server.terminate()
        assert [answer.result(MARGIN_S) for answer in in_flight] == [b"negative"] * 4
        assert ask("film") == b"negative", "who is still connected is answered"
    client.close()  # nobody is connected any more: nothing to wait for
    assert server.wait(MARGIN_S)
    assert server.returncode == 0


def received(client: triton_grpc.InferenceServerClient) -> int:
    """Requests that the text model has taken in: Triton counts them before they are answered."""
    (statistics,) = client.get_inference_statistics("text").model_stats
    return int(statistics.inference_stats.success.count)


def test_a_kept_connection_holds_a_stop_open_no_longer_than_it_may(serve: Callable[[int], TritonServer]) -> None:
    exit_timeout_s = 2
    server = serve(exit_timeout_s)
    assert infer(server.http_url, "good", model="text") == "negative"
    address = (server.endpoints.connect_host, server.endpoints.http_port)
    with socket.create_connection(address), socket.create_connection(address):
        started = time.monotonic()
        server.terminate()
        assert server.wait(MARGIN_S), "Triton ends by itself"
        assert time.monotonic() - started > exit_timeout_s - 1
