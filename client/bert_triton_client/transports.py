"""The seam to the network: what a transport is, and what both protocols' transports share.

A transport runs one step, once: no retries, no state but its connections. What the network raises
becomes one of `errors.py` in it, ``from`` the original. The blocking ones are thread-safe. Their code
is in `grpc_transports.py`, the only import of tritonclient, `http_transports.py` and
`aiohttp_transport.py`, imported when a client needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from . import wire
from .config import ClientConfig, Endpoint
from .errors import (
    ClientClosedError,
    DeadlineExceededError,
    InvalidConfigError,
    ServerUnreachableError,
    WrongProtocolError,
)
from .flows import Ask, Infer


class Transport(Protocol):
    """Blocking transport."""

    def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""

    def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""

    def close(self) -> None:
        """Closes the connections; steps under way raise `ClientClosedError`."""


class AsyncTransport(Protocol):
    """Awaited transport; made and used in one event loop."""

    async def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""

    async def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""

    async def close(self) -> None:
        """Closes the connections; steps under way raise `ClientClosedError`."""


def make_transport(config: ClientConfig) -> Transport:
    """The blocking transport that the URL asks for."""
    if config.endpoint.protocol == "grpc":
        from .grpc_transports import GrpcTransport

        return GrpcTransport(config)
    from .http_transports import HttpTransport

    return HttpTransport(config)


def async_transport_class(config: ClientConfig) -> Callable[[ClientConfig], AsyncTransport]:
    """What makes the awaited transport that the URL asks for: imported now, made in the event loop."""
    if config.endpoint.protocol == "grpc":
        from .grpc_transports import AsyncGrpcTransport

        return AsyncGrpcTransport
    from .aiohttp_transport import AsyncHttpTransport

    return AsyncHttpTransport


def timeout_us(timeout_s: float) -> int:
    """A timeout as Triton's request parameter, so that what nobody waits for leaves the queue."""
    return max(1, int(timeout_s * 1e6))


def closed() -> ClientClosedError:
    """The client was closed."""
    return ClientClosedError("the client is closed: make a new one")


def late(endpoint: Endpoint, timeout_s: float) -> DeadlineExceededError:
    """The answer did not come in time."""
    return DeadlineExceededError(f"no answer from {endpoint} within {timeout_s:.3g} s")


def unreachable(endpoint: Endpoint, reason: object) -> ServerUnreachableError:
    """There is no connection, or it broke."""
    return ServerUnreachableError(f"no connection to {endpoint}, or it broke: {reason}")


def wrong_protocol(endpoint: Endpoint) -> WrongProtocolError:
    """Something answers, in another protocol."""
    other = "http" if endpoint.protocol == "grpc" else "grpc"
    return WrongProtocolError(
        f"{endpoint.authority} does not speak {endpoint.protocol}; if it is the server's {other} port, "
        f"write {other}://{endpoint.authority}"
    )


def untrusted(endpoint: Endpoint, reason: str) -> InvalidConfigError:
    """The server's certificate is signed by nobody that this client knows, or for another name."""
    return InvalidConfigError(
        f"the certificate of {endpoint} is not trusted ({reason}): "
        "give its authority as TLSConfig(ca_certificates=…), and the host by the name in it"
    )
