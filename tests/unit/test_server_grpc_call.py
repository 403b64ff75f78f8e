"""A gRPC call without grpcio, against a gRPC server with it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from server.control import grpc_call

HEADERS = {"triton-grpc-protocol-admin-key": "k" * 300}  # longer than one byte of length can say


class Echo(grpc.GenericRpcHandler):
    """Answers with the message, or refuses it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, dict[str, Any]]] = []
        self.wait = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
            self.seen.append((details.method, message, dict(context.invocation_metadata())))
            if message == b"refuse":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ü" * 2000)
            if message == b"wait":
                self.wait.wait(20)
            return b"" if message == b"nothing" else message

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def echo() -> Iterator[tuple[Echo, tuple[str, int]]]:
    handler = Echo()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield handler, ("127.0.0.1", port)
        handler.wait.set()
        server.stop(0).wait()


def call(
    address: tuple[str, int], message: bytes, interrupted: Callable[[], bool] = bool, timeout_s: float = 20
) -> bool:
    return grpc_call.succeeds(address, "/a.B/C", message, HEADERS, timeout_s=timeout_s, interrupted=interrupted)


def test_an_answer_is_told_from_a_refusal(echo: tuple[Echo, tuple[str, int]]) -> None:
    handler, address = echo
    assert call(address, b"something")
    assert call(address, b"nothing"), "an empty message is a message"
    assert call(address, b"x" * 10_000)
    assert not call(address, b"refuse")
    method, message, metadata = handler.seen[0]
    assert (method, message) == ("/a.B/C", b"something")
    assert metadata["triton-grpc-protocol-admin-key"] == "k" * 300


def test_nobody_waits_for_ever(echo: tuple[Echo, tuple[str, int]]) -> None:
    handler, address = echo
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        call(address, b"wait", interrupted=lambda: bool(handler.seen))
    assert time.monotonic() - started < 15
    with pytest.raises(TimeoutError):
        call(address, b"wait", timeout_s=0.2)


def test_what_is_not_there_or_goes_away_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.close()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(hang_up)
            with pytest.raises(OSError):
                call(address, b"x")
    with pytest.raises(OSError):
        call(address, b"x")
