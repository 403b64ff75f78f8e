"""One inference over gRPC or HTTP, on a connection that belongs to one simulated user.

Owns how bytes travel and how a lost, late or refused call is named. Does not own what the bytes say
(`loadtest.payloads`), or when they are sent (`loadtest.generator`). It never tries a call twice: a load test counts
what the first try met.

    Request ──▶ grpc.GrpcConnection ──▶ http2.Channel (hpack) ──▶ sockets.Stream ──▶ the server
            ──▶ http.HttpConnection ─────────────────────────────▶       │
    Reply or CallError ◀──────────────────────────────────────────────────

Why not grpcio and an HTTP library: what the generator spends on a call is missing from the server that shares its
machine, and is added to every latency. One user has one call under way, so none of their machinery (threads, pools,
streams side by side) is of use here; ``python -m bench.generator_cost`` measures what is left. grpcio also breaks
when a process that used it forks, as Locust's ``--processes`` does. Everything here stands on the ``socket`` and
``ssl`` modules, so it runs in threads, and under gevent's monkey patching in greenlets. There a call may end without a
turn of the event loop, if the reply is quick: a caller that asks again at once has to let others have theirs
(`loadtest.generator.turns`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from bert_triton_client.config import ClientConfig, TLSConfig
from bert_triton_client.errors import InvalidConfigError
from loadtest.access import Access
from loadtest.errors import LoadTestError, UsageError


class Request(NamedTuple):
    """One inference, encoded.

    Attributes:
        body: gRPC: a serialised ``ModelInferRequest``; HTTP: JSON, then the tensors' bytes.
        head_size: HTTP: bytes of the JSON; gRPC: 0.
    """

    body: bytes
    head_size: int


class Reply(NamedTuple):
    """What answered it, still encoded.

    Attributes:
        body: gRPC: a serialised ``ModelInferResponse``; HTTP: JSON, then the tensors' bytes.
        head_size: HTTP: bytes of the JSON, None if the body is JSON alone; gRPC: None.
    """

    body: bytes
    head_size: int | None


class CallError(LoadTestError):
    """A call that brought no answer.

    Attributes:
        kind: the name of the client's error class for this fault, the same over both protocols:
            ``DeadlineExceededError``, ``ServerUnreachableError``, ``OverloadedError``, ``InvalidRequestError`` and its
            children, ``ServerFaultError``, ``WrongProtocolError``, ``UnexpectedAnswerError``.
        message: what happened.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Connection(Protocol):
    """A connection of one user; made without I/O, it connects with the first call and again after a failure."""

    def call(self, request: Request, timeout_s: float) -> Reply:
        """One inference, one at a time.

        Args:
            request: what to ask.
            timeout_s: for everything, connecting included.

        Raises:
            CallError: there is no answer, for whatever reason.
        """

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""


def connector(url: str, model: str, version: str, access: Access) -> Callable[[], Connection]:
    """What makes the connections that a URL asks for. No network I/O: the connections open with their first call.

    Args:
        url: ``grpc://host:port``, ``http://host:port/base``, ``grpcs://…`` or ``https://…``.
        model: its name; over gRPC the request itself names it.
        version: "" leaves the choice to the server; over gRPC the request itself names it.
        access: headers and certificate authorities.

    Raises:
        UsageError: a URL, header or file that cannot work.
    """
    try:
        tls = TLSConfig(ca_certificates=access.ca_certificates)
        config = ClientConfig(url, model=model, headers=access.headers, tls=tls)
        if config.endpoint.protocol == "grpc":
            from loadtest.wire import grpc

            return grpc.connector(config)
        from loadtest.wire import http

        return http.connector(config, version)
    except InvalidConfigError as exc:
        raise UsageError(str(exc)) from exc
