"""Inference over HTTP/1.1 on one kept connection: KServe's v2 with the binary tensor data extension.

Owns the request's head, the answer's framing (``Content-Length``, chunks, or the end of the connection) and statuses.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from bert_triton_client.config import ClientConfig
from bert_triton_client.errors import BertTritonError, UnexpectedAnswerError
from bert_triton_client.faults import error_from_http
from bert_triton_client.http_transports import ssl_context
from bert_triton_client.transports import wrong_protocol
from bert_triton_client.wire import http_error_message
from loadtest.errors import UsageError
from loadtest.wire import Connection, Reply, Request
from loadtest.wire.sockets import Stream, call_error

_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD_BYTES = 65536
_MAX_CHUNK_LINE_BYTES = 1024
_START = b"HTTP/1."
_HEX_DIGITS = b"0123456789abcdefABCDEF"
# What this module writes itself: a second one would break the framing.
_OWN_HEADERS = ("connection", "content-length", "content-type", "inference-header-content-length", "transfer-encoding")


def connector(config: ClientConfig, version: str) -> Callable[[], Connection]:
    """What makes connections; ``version`` "" leaves the choice to the server.

    Raises:
        UsageError: a header that cannot be set.
        InvalidConfigError: a file that holds no certificates.
    """
    context = ssl_context(config.tls) if config.endpoint.tls else None
    return functools.partial(HttpConnection, config, _head(config, version), context)


def _head(config: ClientConfig, version: str) -> bytes:
    """The head of every request up to its two lengths."""
    for name in config.headers:
        if name in _OWN_HEADERS:
            raise UsageError(f"header {name!r} is set by the protocol itself: remove it")
    path = f"{quote(config.endpoint.path)}/v2/models/{quote(config.model, safe='')}"
    if version:
        path += f"/versions/{quote(version, safe='')}"
    headers = {"host": config.endpoint.authority, **config.headers}
    lines = [f"POST {path}/infer HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Content-Type: application/octet-stream\r\n"]).encode("ascii")


class _Answer(NamedTuple):
    status: int
    head_size: int | None
    body: bytes
    keep: bool


class HttpConnection:
    """One user's connection; see `loadtest.wire.Connection`."""

    def __init__(self, config: ClientConfig, head: bytes, context: ssl.SSLContext | None) -> None:
        self._endpoint = config.endpoint
        self._head = head
        self._context = context
        self._stream: Stream | None = None

    def call(self, request: Request, timeout_s: float) -> Reply:
        """One inference.

        Raises:
            CallError: there is no answer.
        """
        try:
            answer = self._exchange(request, time.monotonic() + timeout_s)
        except (OSError, BertTritonError) as exc:
            self.close()
            raise call_error(self._endpoint, exc, timeout_s) from exc
        except BaseException:  # a greenlet that is killed: what is still to come belongs to nobody
            self.close()
            raise
        if not answer.keep:
            self.close()
        if answer.status == 200:
            return Reply(answer.body, answer.head_size)
        error = error_from_http(answer.status, http_error_message(answer.body))
        raise call_error(self._endpoint, error, timeout_s)

    def _exchange(self, request: Request, deadline_s: float) -> _Answer:
        stream = self._connected(deadline_s)
        body, head_size = request
        try:
            stream.send(
                b"%bInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n%b"
                % (self._head, head_size, len(body), body)
            )
        except (BrokenPipeError, ConnectionResetError):
            return self._last_words(stream)
        answer = _Reading(stream, self._not_http).answer()
        stream.used()
        return answer

    def _connected(self, deadline_s: float) -> Stream:
        stream = self._stream
        if stream is not None and stream.unasked() is not None:  # closed by the server, or out of step
            self.close()
            stream = None
        if stream is None:
            stream = self._stream = Stream(self._endpoint, self._context, deadline_s)
        stream.deadline_s = deadline_s
        return stream

    def _last_words(self, stream: Stream) -> _Answer:
        """What a server says that refuses a request before it has read it whole; it closes the connection."""
        return _Reading(stream, self._not_http).answer()._replace(keep=False)

    def _not_http(self) -> BertTritonError:
        return wrong_protocol(self._endpoint)

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class _Reading:
    """One answer, read from a stream that holds nothing else."""

    def __init__(self, stream: Stream, not_http: Callable[[], BertTritonError]) -> None:
        self._stream = stream
        self._not_http = not_http
        self._buffer = b""

    def answer(self) -> _Answer:
        """Reads it whole."""
        status = 100
        while 100 <= status < 200:  # "continue" and the like come before the answer
            version, status, headers = self._read_head()
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnexpectedAnswerError(
                f"the answer is compressed ({headers[b'content-encoding']!r}), which nobody asked for"
            )
        head_size = headers.get(b"inference-header-content-length")
        connection = headers.get(b"connection", b"").lower()
        keep = b"close" not in connection if version == b"1" else b"keep-alive" in connection
        body, ended = self._read_body(status, headers)
        size = None if head_size is None else _number(head_size, "Inference-Header-Content-Length")
        return _Answer(status, size, body, keep and not ended and not self._buffer)

    def _read_head(self) -> tuple[bytes, int, dict[bytes, bytes]]:
        while (end := self._buffer.find(_END_OF_HEAD)) < 0:
            if not _START.startswith(self._buffer[: len(_START)]):
                raise self._not_http()
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise UnexpectedAnswerError(f"the head of the answer is longer than {_MAX_HEAD_BYTES} bytes")
            self._more()
        head, self._buffer = self._buffer[:end], self._buffer[end + len(_END_OF_HEAD) :]
        if not head.startswith(_START):
            raise self._not_http()
        first, *lines = head.split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return first[7:8], _number(first[9:12], "status"), headers

    def _read_body(self, status: int, headers: dict[bytes, bytes]) -> tuple[bytes, bool]:
        """The body, and whether the connection ended with it."""
        if status in (204, 304):
            return b"", False
        if (encoding := headers.get(b"transfer-encoding", b"").lower()) == b"chunked":
            return self._read_chunks(), False
        if encoding:
            raise UnexpectedAnswerError(f"the answer has transfer encoding {encoding!r}, expected chunks")
        if (length := headers.get(b"content-length")) is not None:
            return self._take(_number(length, "Content-Length")), False
        return self._rest(), True

    def _read_chunks(self) -> bytes:
        chunks = []
        while size := self._chunk_size():
            chunks.append(self._take(size))
            if self._take(2) != b"\r\n":
                raise UnexpectedAnswerError("a chunk of the answer is longer than it says")
        while self._line():  # trailers
            pass
        return b"".join(chunks)

    def _chunk_size(self) -> int:
        size = self._line().partition(b";")[0].strip()
        if not size or size.strip(_HEX_DIGITS):
            raise UnexpectedAnswerError(f"a chunk of the answer has length {size!r}")
        return int(size, 16)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_CHUNK_LINE_BYTES:
                raise UnexpectedAnswerError("a chunk of the answer has no length")
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _take(self, size: int) -> bytes:
        if len(self._buffer) == size:
            taken, self._buffer = self._buffer, b""
            return taken
        parts, missing = [self._buffer], size - len(self._buffer)
        while missing > 0:
            parts.append(self._received())
            missing -= len(parts[-1])
        taken = b"".join(parts)
        self._buffer = taken[size:]
        return taken[:size] if self._buffer else taken

    def _rest(self) -> bytes:
        parts = [self._buffer]
        while part := self._stream.receive():
            parts.append(part)
        self._buffer = b""
        return b"".join(parts)

    def _more(self) -> None:
        self._buffer += self._received()

    def _received(self) -> bytes:
        if not (received := self._stream.receive()):
            raise ConnectionError("the server closed the connection before its answer was complete")
        return received


def _number(text: bytes, what: str) -> int:
    if not text.isdigit():
        raise UnexpectedAnswerError(f"{what} of the answer is {text!r}, expected a number")
    return int(text)
