"""A connected socket, plain or TLS, whose every wait ends at the call's deadline.

Owns connecting and how a broken connection is named. Plain ``socket`` and ``ssl``, so that gevent's monkey patching
makes every wait one of a greenlet.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from bert_triton_client.config import Endpoint
from bert_triton_client.errors import BertTritonError, InvalidConfigError, ServerUnreachableError
from bert_triton_client.transports import late, unreachable, wrong_protocol
from loadtest.wire import CallError

_RECEIVE_BYTES = 65536
# A connection that was used this recently is taken to be still there: asking would cost every call a system call.
_FRESH_S = 0.1


class Stream:
    """One connection.

    Args:
        endpoint: where to; the look-up of a host's name keeps the system's own time limit.
        context: None speaks plain TCP.
        deadline_s: of `time.monotonic`, for connecting and everything after it until it is set anew.

    Raises:
        OSError: there is no connection; `TimeoutError` not in time, `ssl.SSLError` not a trusted one.
    """

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._used_s = time.monotonic()
        self._socket = self._connect(endpoint)
        if context is not None:
            self._secure(endpoint, context)

    def _connect(self, endpoint: Endpoint) -> socket.socket:
        failure: OSError | None = None
        addresses = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            connected = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(self._left_s())
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as exc:
                connected.close()
                failure = exc
            except BaseException:  # a greenlet that is killed while it connects
                connected.close()
                raise
            else:
                return connected
        raise failure or OSError(f"{endpoint.host} has no address")

    def _secure(self, endpoint: Endpoint, context: ssl.SSLContext) -> None:
        try:
            self._socket.settimeout(self._left_s())
            self._socket = context.wrap_socket(self._socket, server_hostname=endpoint.host)
        except BaseException:
            self._socket.close()
            raise

    def _left_s(self) -> float:
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def send(self, data: bytes) -> None:
        """Sends everything, or raises what the socket does."""
        self._socket.settimeout(self._left_s())
        self._socket.sendall(data)

    def send_at_once(self, data: bytes) -> bool:
        """Sends without waiting; False if it did not all go out, and the connection is of no more use."""
        self._socket.settimeout(0)
        try:
            return self._socket.send(data) == len(data)
        except OSError:
            return False

    def receive(self) -> bytes:
        """What comes next, empty at the end of the connection."""
        self._socket.settimeout(self._left_s())
        return self._socket.recv(_RECEIVE_BYTES)

    def used(self) -> None:
        """Notes that a call ended well just now."""
        self._used_s = time.monotonic()

    def unasked(self) -> bytes | None:
        """What came since the last call, empty at the end; None if nothing did, or if that call was just now."""
        if time.monotonic() - self._used_s < _FRESH_S:
            return None
        self._socket.settimeout(0)
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Closes the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()


def call_error(endpoint: Endpoint, exc: BertTritonError | OSError, timeout_s: float) -> CallError:
    """What a call raises for what a connection raised: the class and the words of the client."""
    if isinstance(exc, OSError) and not isinstance(exc, BertTritonError):
        exc = _named(endpoint, exc, timeout_s)
    return CallError(type(exc).__name__, str(exc))


def _named(endpoint: Endpoint, exc: OSError, timeout_s: float) -> BertTritonError:
    if isinstance(exc, TimeoutError):
        return late(endpoint, timeout_s)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return InvalidConfigError(
            f"the certificate of {endpoint} is not trusted ({exc.verify_message}): give the file of the authority that "
            "signed it, and the host by the name in it"
        )
    if isinstance(exc, ssl.SSLError) and exc.reason in (
        "NO_APPLICATION_PROTOCOL",
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
    ):
        return wrong_protocol(endpoint)
    if isinstance(exc, ssl.SSLError):
        return ServerUnreachableError(f"TLS with {endpoint} failed: {exc}")
    return unreachable(endpoint, exc)
