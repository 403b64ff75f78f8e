"""HTTP, blocking: a pool of kept connections, one to a request under way.

Owns HTTP's paths, statuses and connections; `wire.py` builds and reads the bodies. It is the
standard library and not tritonclient's HTTP client: that one belongs to a single thread, brings
gevent's event loop into every thread that uses it, and has no deadline for a whole answer.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from . import wire
from .config import ClientConfig, Endpoint, TLSConfig
from .errors import BertTritonError, InvalidConfigError, ServerUnreachableError, UnexpectedAnswerError
from .faults import error_from_http
from .flows import Ask, Infer, Question
from .transports import closed, late, timeout_us, unreachable, untrusted, wrong_protocol

# question: (method, path)
_QUESTIONS: Mapping[Question, tuple[str, str]] = {
    Question.LIVE: ("GET", "v2/health/live"),
    Question.READY: ("GET", "v2/health/ready"),
    Question.MODEL_READY: ("GET", "v2{model}/ready"),
    Question.CONFIG: ("GET", "v2{model}/config"),
    Question.INDEX: ("POST", "v2/repository/index"),
    Question.STATISTICS: ("GET", "v2{model}/stats"),
    Question.SERVER: ("GET", "v2"),
    Question.METADATA: ("GET", "v2{model}"),
}
_YES_OR_NO = (Question.LIVE, Question.READY, Question.MODEL_READY)
HEAD_LENGTH = "Inference-Header-Content-Length"


class HttpRequest(NamedTuple):
    """What to send."""

    method: str
    path: str
    body: bytes = b""
    head_length: int | None = None  # of the JSON at the start of an inference
    traceparent: str | None = None

    def headers(self) -> dict[str, str]:
        """Those that are not the same for all requests."""
        headers = {} if self.head_length is None else {HEAD_LENGTH: str(self.head_length)}
        return headers if self.traceparent is None else {**headers, "traceparent": self.traceparent}


class HttpResponse(NamedTuple):
    """What came back."""

    status: int
    head_length: int | None
    body: bytes


class HttpCodec:
    """Requests, answers and errors, the same for both HTTP transports."""

    def __init__(self, config: ClientConfig) -> None:
        self.endpoint = config.endpoint

    def request(self, step: Infer) -> HttpRequest:
        """The request of an inference."""
        body, head_length = wire.http_body(step.request, timeout_us(step.timeout_s))
        path = f"{self.endpoint.path}/v2{_model_path(step.request.model, step.request.version)}/infer"
        return HttpRequest("POST", path, body, head_length, step.traceparent)

    def answer(self, response: HttpResponse) -> wire.InferAnswer:
        """The answer of an inference, or what its status raises."""
        if response.status != 200:
            raise error_from_http(response.status, wire.http_error_message(response.body))
        return wire.parse_http_body(response.body, response.head_length)

    def question(self, step: Ask) -> HttpRequest:
        """The request of a question."""
        method, path = _QUESTIONS[step.question]
        model = _model_path(step.model, step.version) if step.model else "/models"
        return HttpRequest(method, f"{self.endpoint.path}/{path.format(model=model)}")

    def fact(self, step: Ask, response: HttpResponse) -> Any:
        """The answer of a question, or what its status raises."""
        if step.question in _YES_OR_NO and response.status in (200, 400):
            return response.status == 200
        if response.status != 200:
            raise error_from_http(response.status, wire.http_error_message(response.body))
        return wire.parse_json(response.body)


def _model_path(model: str, version: str) -> str:
    path = f"/models/{quote(model, safe='')}"
    return f"{path}/versions/{version}" if version else path


def head_length(header: str | None) -> int | None:
    """The length of the JSON before the binary tensors of an answer."""
    if header is None:
        return None
    if not header.isdigit():
        raise UnexpectedAnswerError(f"header {HEAD_LENGTH} is {header!r}, expected a number of bytes")
    return int(header)


def ssl_context(tls: TLSConfig) -> ssl.SSLContext:
    """What `tls` asks for; verifies the server's certificate and name."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_certificates)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.private_key)
    except (ssl.SSLError, OSError) as exc:
        raise InvalidConfigError(f"TLS: the files cannot be used: {exc}") from exc
    return context


class HttpTransport:
    """Blocking HTTP over a pool of kept connections, one to a request under way."""

    def __init__(self, config: ClientConfig) -> None:
        self._codec = HttpCodec(config)
        self._endpoint = config.endpoint
        self._context = ssl_context(config.tls) if config.endpoint.tls else None
        lines = [f"Host: {config.endpoint.authority}", *(f"{k}: {v}" for k, v in config.headers.items())]
        self._headers = "".join(f"{line}\r\n" for line in lines)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._is_closed = False

    def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""
        return self._codec.answer(self._send(self._codec.request(step), step.timeout_s))

    def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""
        return self._codec.fact(step, self._send(self._codec.question(step), step.timeout_s))

    def _send(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        with self._errors(timeout_s):
            connection = self._take(time.monotonic() + timeout_s)
            try:
                response, reusable = connection.exchange(self._encode(request), request.method)
            except BaseException:
                self._drop(connection)
                raise
        self._give_back(connection, reusable)
        return response

    def _encode(self, request: HttpRequest) -> bytes:
        head = f"{request.method} {request.path} HTTP/1.1\r\n{self._headers}Content-Length: {len(request.body)}\r\n"
        if request.head_length is not None:
            head += "Content-Type: application/octet-stream\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers().items())
        return head.encode("ascii") + b"\r\n" + request.body

    @contextlib.contextmanager
    def _errors(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as exc:
            if self._is_closed:
                raise closed() from exc
            raise self._error(exc, timeout_s) from exc

    def _error(self, exc: Exception, timeout_s: float) -> BertTritonError:
        if isinstance(exc, TimeoutError):
            return late(self._endpoint, timeout_s)
        if isinstance(exc, ssl.SSLError):
            return tls_error(self._endpoint, exc)
        if isinstance(exc, http.client.BadStatusLine) and not isinstance(exc, ConnectionError):
            return wrong_protocol(self._endpoint)
        if isinstance(exc, (OSError, http.client.IncompleteRead)):
            return unreachable(self._endpoint, exc)
        return UnexpectedAnswerError(f"{self._endpoint} answered with broken HTTP: {exc!r}")

    # --- The pool ---

    def _take(self, deadline: float) -> _Connection:
        while True:
            with self._lock:
                if self._is_closed:
                    raise closed()
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(deadline)
            if connection.is_alive():
                connection.deadline = deadline
                return connection
            self._drop(connection)

    def _connect(self, deadline: float) -> _Connection:
        connection = _Connection(self._endpoint, self._context, deadline)
        with self._lock:
            self._open.add(connection)
            too_late = self._is_closed
        if too_late:
            self._drop(connection)
            raise closed()
        return connection

    def _give_back(self, connection: _Connection, reusable: bool) -> None:
        with self._lock:
            keep = reusable and not self._is_closed
            if keep:
                self._idle.append(connection)
        if not keep:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def close(self) -> None:
        """Closes the connections; steps under way raise `ClientClosedError`."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            busy = self._open.difference(idle)
        for connection in idle:
            self._drop(connection)
        for connection in busy:  # their threads close them
            connection.abort()


def tls_error(endpoint: Endpoint, exc: Exception) -> BertTritonError:
    """The error of a TLS handshake that failed."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return untrusted(endpoint, exc.verify_message)
    return ServerUnreachableError(f"TLS with {endpoint} failed: {exc}")


class _Connection:
    """One kept connection; every wait ends at ``deadline``, however slowly bytes come."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None, deadline: float) -> None:
        self.deadline = deadline
        self._sock = self._connect(endpoint)
        if context is not None:
            try:
                self._sock.settimeout(self._left_s())
                self._sock = context.wrap_socket(self._sock, server_hostname=endpoint.host)
            except BaseException:
                self._sock.close()
                raise

    def _connect(self, endpoint: Endpoint) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._left_s())
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as exc:
                sock.close()
                failure = exc
            else:
                return sock
        raise failure or OSError(f"{endpoint.host} has no address")

    def _left_s(self) -> float:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def exchange(self, request: bytes, method: str) -> tuple[HttpResponse, bool]:
        """Sends a request and reads its answer; the flag says whether the connection can be kept."""
        self._sock.settimeout(self._left_s())
        self._sock.sendall(request)
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]  # all it needs is makefile
        try:
            response.begin()
            body = response.read()
        finally:
            response.close()
        length = head_length(response.getheader(HEAD_LENGTH))
        return HttpResponse(response.status, length, body), not response.will_close

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What `http.client.HTTPResponse` reads from."""
        return io.BufferedReader(_Reader(self), 16384)

    def receive_into(self, buffer: Any) -> int:
        """Reads what there is, or waits for it until the deadline."""
        self._sock.settimeout(self._left_s())
        return self._sock.recv_into(buffer)

    def is_alive(self) -> bool:
        """Whether the server has kept its end open and said nothing out of turn."""
        if isinstance(self._sock, ssl.SSLSocket):
            return True
        try:
            self._sock.settimeout(0)
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        """Wakes the thread that waits on this connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, connection: _Connection) -> None:
        super().__init__()
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive_into(buffer)
