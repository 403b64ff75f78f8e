"""Where one server listens: host, three ports, and the URLs made from them."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass

from server.errors import OptionError, PortError

SERVICES = ("http", "grpc", "metrics")
MAX_PORT = 65535
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not bound to


@dataclass(frozen=True)
class Endpoints:
    """Host and ports of one server; port 0 stands for a free one (see `resolved`).

    Raises:
        OptionError: a port out of range, or two services on one port.
    """

    host: str = "127.0.0.1"
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0

    def __post_init__(self) -> None:
        seen: dict[int, str] = {}
        for service, port in self.ports().items():
            if not 0 <= port <= MAX_PORT:
                raise OptionError(f"--{service}-port {port} is not a port; use 1 to {MAX_PORT}, or 0 for a free one")
            if port and port in seen:
                raise OptionError(f"--{service}-port and --{seen[port]}-port are both {port}; choose different ones")
            seen[port] = service

    def ports(self) -> dict[str, int]:
        """Service (http, grpc, metrics) -> port."""
        return dict(zip(SERVICES, (self.http_port, self.grpc_port, self.metrics_port), strict=True))

    @property
    def chosen(self) -> bool:
        """Whether every port is a real one."""
        return all(self.ports().values())

    @property
    def connect_host(self) -> str:
        """The address a client on this machine connects to."""
        return _ANY.get(self.host, self.host)

    def url(self, service: str) -> str:
        """For example http://127.0.0.1:8000, grpc://127.0.0.1:8001, http://127.0.0.1:8002/metrics."""
        host = f"[{self.connect_host}]" if ":" in self.connect_host else self.connect_host
        scheme = "grpc" if service == "grpc" else "http"
        return f"{scheme}://{host}:{self.ports()[service]}" + ("/metrics" if service == "metrics" else "")

    def resolved(self) -> Endpoints:
        """The same with every 0 replaced by a port that is free at this moment.

        Raises:
            PortError: a port is taken or may not be used, or the host is not an address of this machine.
        """
        with ExitStack() as sockets:
            bound = {
                service: sockets.enter_context(_bind(self.host, port, service))
                for service, port in self.ports().items()
            }
            return Endpoints(self.host, *(bound[service].getsockname()[1] for service in SERVICES))


def _bind(host: str, port: int, service: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise PortError(
            f"cannot listen on host {host!r}: {exc.strerror}; give an address of this machine as --host"
        ) from exc
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Triton does: a port in TIME_WAIT is free
    try:
        bound.bind(address)
    except OSError as exc:
        bound.close()
        raise PortError(_port_message(host, port, service, exc.strerror or str(exc))) from exc
    return bound


def _port_message(host: str, port: int, service: str, reason: str) -> str:
    return (
        f"cannot listen on {host} port {port} for {service}: {reason}; "
        f"stop what uses it, or choose another with --{service}-port (0 = a free one)"
    )
