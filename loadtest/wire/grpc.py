"""Unary gRPC over one HTTP/2 connection: Triton's ``ModelInfer`` with messages that are already serialised.

Owns gRPC's headers, message prefix, deadline and statuses, as doc/PROTOCOL-HTTP2.md of github.com/grpc/grpc has them.
The deadline is told to the server and kept on this side too: a stream that is late is reset, and the connection goes on
if all of the reset went out.
"""

from __future__ import annotations

import base64
import functools
import math
import ssl
import struct
import time
from collections.abc import Callable
from urllib.parse import unquote

from bert_triton_client.config import ClientConfig, Endpoint
from bert_triton_client.errors import BertTritonError, ServerUnreachableError, UnexpectedAnswerError
from bert_triton_client.faults import error_from_grpc
from bert_triton_client.http_transports import ssl_context
from bert_triton_client.transports import late, unreachable, wrong_protocol
from loadtest.errors import UsageError
from loadtest.wire import Connection, Reply, Request, frames, hpack, http2
from loadtest.wire.sockets import Stream, call_error

_PATH = "/inference.GRPCInferenceService/ModelInfer"
_PREFIX = struct.Struct(">BI")  # compressed or not, length
_MAX_MESSAGE_BYTES = 2**32 - 1
_PROBE_TIMEOUT_S = 1.0
_MAX_TIMEOUT_DIGITS = 8
_TIMEOUT_UNITS = (("u", 1e6), ("m", 1e3), ("S", 1.0))
# What this module and HTTP/2 write themselves, and what HTTP/2 forbids.
_OWN_HEADERS = (
    "connection",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
)

_STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
# What a status of HTTP or a reset means where no gRPC status came: gRPC's own tables.
_OF_HTTP = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
_OF_RESET = {
    "REFUSED_STREAM": "UNAVAILABLE",
    "CANCEL": "CANCELLED",
    "ENHANCE_YOUR_CALM": "RESOURCE_EXHAUSTED",
    "INADEQUATE_SECURITY": "PERMISSION_DENIED",
}


def connector(config: ClientConfig) -> Callable[[], Connection]:
    """What makes connections.

    Raises:
        UsageError: a header that cannot be set.
        InvalidConfigError: a file that holds no certificates.
    """
    context = None
    if config.endpoint.tls:
        context = ssl_context(config.tls)
        context.set_alpn_protocols(["h2"])
    return functools.partial(GrpcConnection, config.endpoint, _block(config), context)


def _block(config: ClientConfig) -> bytes:
    """The header block of every request up to its deadline; it tells the server that no table is used."""
    for name in config.headers:
        if name in _OWN_HEADERS:
            raise UsageError(f"header {name!r} is set by the protocol itself: remove it")
    headers = dict(config.headers)
    authority = headers.pop("host", config.endpoint.authority)
    scheme = "https" if config.endpoint.tls else "http"
    ours = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", _PATH),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", headers.pop("user-agent", "bert-triton-loadtest")),
    ]
    theirs = [(name, _base64(value) if name.endswith("-bin") else value) for name, value in headers.items()]
    return hpack.table_size_update(0) + hpack.encode(ours) + hpack.encode(theirs, secret=True)


def _base64(value: str) -> str:
    return base64.b64encode(value.encode()).decode().rstrip("=")


@functools.lru_cache(maxsize=16)
def _timeout(timeout_s: float) -> bytes:
    """The header field of a deadline, in the finest unit that it fits."""
    for unit, scale in _TIMEOUT_UNITS:
        value = math.ceil(timeout_s * scale)
        if value < 10**_MAX_TIMEOUT_DIGITS:
            return hpack.encode([("grpc-timeout", f"{value}{unit}")])
    return b""  # more than three years


class GrpcConnection:
    """One user's connection; see `loadtest.wire.Connection`."""

    def __init__(self, endpoint: Endpoint, block: bytes, context: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._block = block
        self._context = context
        self._channel: http2.Channel | None = None

    def call(self, request: Request, timeout_s: float) -> Reply:
        """One inference.

        Raises:
            CallError: there is no answer.
        """
        try:
            return Reply(self._message(self._exchange(request.body, timeout_s), timeout_s), None)
        except (OSError, BertTritonError) as exc:
            raise call_error(self._endpoint, exc, timeout_s) from exc

    def _exchange(self, body: bytes, timeout_s: float) -> http2.Answer:
        if len(body) > _MAX_MESSAGE_BYTES:
            raise error_from_grpc("RESOURCE_EXHAUSTED", f"a message of {len(body)} bytes is larger than max")
        deadline_s = time.monotonic() + timeout_s
        channel = self._connected(deadline_s)
        message = _PREFIX.pack(0, len(body)) + body
        try:
            return channel.exchange(self._block + _timeout(timeout_s), message, deadline_s)
        except ConnectionError as exc:
            if not channel.greeted and self._speaks_http(deadline_s):
                raise wrong_protocol(self._endpoint) from exc
            raise
        finally:
            if not channel.usable:
                self.close()

    def _connected(self, deadline_s: float) -> http2.Channel:
        if self._channel is not None:
            self._channel.refresh()
            if not self._channel.usable:
                self.close()
        if self._channel is None:
            stream = Stream(self._endpoint, self._context, deadline_s)
            self._channel = http2.Channel(stream, functools.partial(wrong_protocol, self._endpoint))
        return self._channel

    def _speaks_http(self, deadline_s: float) -> bool:
        """Whether a port that hung up on HTTP/2 answers HTTP/1: a lost server looks the same otherwise."""
        try:
            stream = Stream(self._endpoint, self._context, min(deadline_s, time.monotonic() + _PROBE_TIMEOUT_S))
        except OSError:
            return False
        try:
            stream.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
            return stream.receive().startswith(b"HTTP/")
        except OSError:
            return False
        finally:
            stream.close()

    def _message(self, answer: http2.Answer, timeout_s: float) -> bytes:
        headers = dict(answer.headers or ())
        fields = headers if answer.trailers is None else dict(answer.trailers)
        if fields.get(b"grpc-status") != b"0":
            raise self._refusal(answer, headers, fields, timeout_s)
        data = answer.chunks[0] if len(answer.chunks) == 1 else b"".join(answer.chunks)
        if len(data) < _PREFIX.size:
            raise UnexpectedAnswerError(f"{self._endpoint} answered OK without a message")
        compressed, size = _PREFIX.unpack_from(data)
        if compressed:
            encoding = headers.get(b"grpc-encoding", b"?").decode(errors="replace")
            raise UnexpectedAnswerError(f"{self._endpoint} compressed its answer ({encoding}), which nobody asked for")
        if size != len(data) - _PREFIX.size:
            raise UnexpectedAnswerError(
                f"{self._endpoint} answered with {len(data) - _PREFIX.size} bytes instead of a message of {size}"
            )
        return data[_PREFIX.size :]

    def _refusal(
        self, answer: http2.Answer, headers: dict[bytes, bytes], fields: dict[bytes, bytes], timeout_s: float
    ) -> BertTritonError:
        status, message = _status(answer, headers, fields)
        if status == "DEADLINE_EXCEEDED":
            return late(self._endpoint, timeout_s)
        error = error_from_grpc(status, message)
        return unreachable(self._endpoint, message) if isinstance(error, ServerUnreachableError) else error

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _status(answer: http2.Answer, headers: dict[bytes, bytes], fields: dict[bytes, bytes]) -> tuple[str, str]:
    """The name of the status and the message, wherever they came from."""
    if (code := fields.get(b"grpc-status")) is not None:
        known = code.isdigit() and int(code) < len(_STATUS_NAMES)
        name = _STATUS_NAMES[int(code)] if known else code.decode(errors="replace")
        return name, unquote(fields.get(b"grpc-message", b"").decode(errors="replace"))
    http_status = headers.get(b":status", b"")
    if http_status.isdigit() and http_status != b"200":
        return _OF_HTTP.get(int(http_status), "UNKNOWN"), f"HTTP status {http_status.decode()} where gRPC was expected"
    if answer.reset is not None:
        name = frames.error_name(answer.reset)
        return _OF_RESET.get(name, "INTERNAL"), f"the server reset the call ({name})"
    content_type = headers.get(b"content-type", b"no content type").decode(errors="replace")
    return "UNKNOWN", f"an answer of {content_type} without a gRPC status"
