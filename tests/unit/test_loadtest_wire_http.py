"""Inference over HTTP/1.1 against a server that says exactly what a test writes; and what both protocols share."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from loadtest.access import Access
from loadtest.errors import UsageError
from loadtest.wire import CallError, Connection, Reply, Request, connector, frames, sockets
from tests.unit.scripted_peer import Peer, ScriptedServer

REQUEST = Request(b'{"inputs":[]}BYTES', 13)
TIMEOUT_S = 30.0
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"


def connection(server: ScriptedServer, base: str = "", access: Access | None = None) -> contextlib.closing[Connection]:
    make = connector(f"http://{server.authority}{base}", "a model", "3", access or Access())
    return contextlib.closing(make())


def ask(connected: Connection, timeout_s: float = TIMEOUT_S) -> bytes:
    return connected.call(REQUEST, timeout_s).body


def says(*answers: bytes, piece: int = 2**20) -> Callable[[Peer], None]:
    """A script that answers one request after another on one connection."""

    def script(peer: Peer) -> None:
        for answer in answers:
            assert peer.http_request()[1] == REQUEST.body
            peer.send(answer, piece=piece)

    return script


def test_what_is_sent() -> None:
    def script(peer: Peer) -> None:
        head, body = peer.http_request()
        assert body == REQUEST.body
        first, *headers = head.decode().rstrip().split("\r\n")
        assert first == "POST /base%20path/v2/models/a%20model/versions/3/infer HTTP/1.1"
        assert sorted(headers) == [
            "Content-Length: 18",
            "Content-Type: application/octet-stream",
            "Inference-Header-Content-Length: 13",
            "authorization: Bearer x",
            f"host: {server.authority}",
        ]
        peer.send(b"HTTP/1.1 200 OK\r\ninference-header-content-length: 2\r\ncontent-length: 6\r\n\r\n{}DATA")

    with (
        ScriptedServer(script) as server,
        connection(server, "/base path/", Access({"Authorization": "Bearer x"})) as connected,
    ):
        assert connected.call(REQUEST, TIMEOUT_S) == Reply(b"{}DATA", 2)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3\r\ngoo\r\n1;name=value\r\nd\r\n00\r\nTrailer: x\r\n\r\n"
)  # fmt: skip
FRAMINGS = {
    "a length": GOOD,
    "chunks": CHUNKED,
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
    "1.0 that stays": b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 4\r\n\r\ngood",
}


@pytest.mark.parametrize("piece", [1, 5, 2**20])
@pytest.mark.parametrize("answer", FRAMINGS.values(), ids=FRAMINGS)
def test_an_answer_in_pieces_and_calls_one_after_another(answer: bytes, piece: int) -> None:
    with ScriptedServer(says(answer, answer, answer, piece=piece)) as server, connection(server) as connected:
        assert [ask(connected) for _ in range(3)] == [b"good"] * 3


ENDINGS = {
    "said": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood",
    "by version": b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood",
    "as the answer's end": b"HTTP/1.1 200 OK\r\n\r\ngood",
}


@pytest.mark.parametrize("answer", ENDINGS.values(), ids=ENDINGS)
def test_a_connection_that_the_server_ends_is_replaced(answer: bytes) -> None:
    with ScriptedServer(says(answer), says(GOOD)) as server, connection(server) as connected:
        assert [ask(connected), ask(connected)] == [b"good", b"good"]


def test_a_connection_that_ended_between_calls_is_replaced() -> None:
    with ScriptedServer(says(GOOD), says(GOOD)) as server, connection(server) as connected:
        assert ask(connected) == b"good"
        server.wait_for_end()
        time.sleep(2 * sockets._FRESH_S)  # one that was used just now is not looked at
        assert ask(connected) == b"good"


def test_large_answers() -> None:
    body = bytes(range(256)) * 40_000
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = b"".join(b"%x\r\n%b\r\n" % (100_000, body[at : at + 100_000]) for at in range(0, 10_200_000, 100_000))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b%x\r\n%b\r\n0\r\n\r\n" % (
        chunks,
        len(body) - 10_200_000,
        body[10_200_000:],
    )
    with ScriptedServer(says(plain, chunked, GOOD)) as server, connection(server) as connected:
        assert [ask(connected), ask(connected), ask(connected)] == [body, body, b"good"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, b'{"error":"TEXT[2]: no tokens"}', "InvalidTextError", "text 2: no tokens"),
        (400, b'{"error":"Request for unknown model: \'x\' is not found"}', "ModelNotFoundError", "unknown model"),
        (503, b'{"error":"Exceeds maximum queue size"}', "OverloadedError", "queue size"),
        (504, b"<html>late</html>", "DeadlineExceededError", "<html>late</html>"),
        (502, b"<html>bad gateway</html>", "ServerUnreachableError", "bad gateway"),
        (401, b"", "AccessDeniedError", "HTTP 401"),
        (413, b"", "InvalidRequestError", "HTTP 413"),
        (500, b'{"error":"broke"}', "ServerFaultError", "broke"),
        (302, b"", "UnexpectedAnswerError", "HTTP 302"),
    ],
)
def test_a_refusal_is_the_clients_error(status: int, body: bytes, kind: str, text: str) -> None:
    answer = b"HTTP/1.1 %d What\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    with ScriptedServer(says(answer, GOOD)) as server, connection(server) as connected:
        with pytest.raises(CallError) as caught:
            ask(connected)
        assert caught.value.kind == kind
        assert text in caught.value.message
        assert ask(connected) == b"good"


BROKEN = {
    "no number as status": b"HTTP/1.1 abc What\r\n\r\n",
    "no number as length": b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
    "no number as head": b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: x\r\nContent-Length: 0\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    "a chunk without length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    "a chunk of a strange length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\n",
    "a chunk that is too long": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabcd\r\n",
    "an endless chunk length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
    "another encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "compression": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_server_that_breaks_the_rules(answer: bytes) -> None:
    def breaks(peer: Peer) -> None:
        says(answer)(peer)
        assert peer.ended()

    with ScriptedServer(breaks, says(GOOD)) as server, connection(server) as connected:
        with pytest.raises(CallError) as caught:
            ask(connected)
        assert caught.value.kind == "UnexpectedAnswerError"
        assert ask(connected) == b"good"


@pytest.mark.parametrize("answer", [b"", GOOD[:9], GOOD[:-1], CHUNKED[:60]], ids=len)
def test_a_lost_answer_is_a_failure_and_not_tried_again(answer: bytes) -> None:
    with ScriptedServer(says(answer), says(GOOD)) as server, connection(server) as connected:
        with pytest.raises(CallError, match=r"no connection to http://.* or it broke") as caught:
            ask(connected)
        assert caught.value.kind == "ServerUnreachableError"
        assert server.connections == 1
        assert ask(connected) == b"good"


def test_a_late_answer_is_nobodys() -> None:
    def late(peer: Peer) -> None:
        peer.http_request()
        assert peer.ended()

    with ScriptedServer(late, says(GOOD)) as server, connection(server) as connected:
        started = time.monotonic()
        with pytest.raises(CallError, match=r"no answer from http://.* within 1 s") as caught:
            ask(connected, 1.0)
        assert caught.value.kind == "DeadlineExceededError"
        assert time.monotonic() - started < TIMEOUT_S
        assert ask(connected) == b"good"


def test_slow_bytes_do_not_move_the_deadline() -> None:
    def slow(peer: Peer) -> None:
        peer.http_request()
        with contextlib.suppress(OSError):
            for _ in range(300):  # half a minute
                peer.send(b"HTTP/1.1 200 OK"[:1])
                time.sleep(0.1)

    with ScriptedServer(slow) as server, connection(server) as connected:
        started = time.monotonic()
        with pytest.raises(CallError):
            ask(connected, 0.5)
        assert time.monotonic() - started < 15


def test_a_refusal_before_the_request_was_read() -> None:
    def refuses(peer: Peer) -> None:
        peer.until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.ended()  # a server that lingers, so that what it said is not lost

    with ScriptedServer(refuses, says(GOOD)) as server, connection(server) as connected:
        with pytest.raises(CallError, match="HTTP 413") as caught:
            connected.call(Request(b"x" * 2**20, 0), TIMEOUT_S)
        assert caught.value.kind == "InvalidRequestError"
        assert ask(connected) == b"good"


def test_a_port_that_speaks_http2() -> None:
    answer = frames.settings_frame({}) + frames.frame(frames.GOAWAY, 0, 0, b"\0" * 8)
    with ScriptedServer(says(answer), says(GOOD)) as server, connection(server) as connected:
        with pytest.raises(CallError, match="does not speak http; if it is the server's grpc port") as caught:
            ask(connected)
        assert caught.value.kind == "WrongProtocolError"
        assert ask(connected) == b"good"


# --- Both protocols -----------------------------------------------------------------------------------


def test_errors_pickle() -> None:
    error = pickle.loads(pickle.dumps(CallError("OverloadedError", "full")))  # noqa: S301
    assert (error.kind, error.message, str(error)) == ("OverloadedError", "full", "OverloadedError: full")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize(
    ("url", "access", "text"),
    [
        ("{0}//host", Access(), "does not say which protocol"),
        ("{0}://host:99999", Access(), "99999"),
        ("{0}://host", Access({"a b": "c"}), "'a b'"),
        ("{0}://host", Access({"a": "b\r\nc: d"}), "header 'a'"),
        ("{0}://host", Access({"Content-Length": "1"}), "'content-length' is set by the protocol itself"),
        ("{0}s://host", Access(ca_certificates="/no/such/file"), "/no/such/file"),
        ("{0}s://host", Access(ca_certificates=__file__), "files cannot be used"),
    ],
)
def test_what_cannot_work_is_said_at_once(scheme: str, url: str, access: Access, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        connector(url.format(scheme), "model", "", access)


def test_certificates_for_a_plain_url_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    with pytest.raises(UsageError, match="not TLS"):
        connector("grpc://host", "model", "", Access(ca_certificates=str(tmp_path / "ca.pem")))


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_plain_port_spoken_to_with_tls(scheme: str) -> None:
    def plain(peer: Peer) -> None:
        peer.exactly(5)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with ScriptedServer(plain) as server:
        connected = connector(f"{scheme}://{server.authority}", "model", "", Access())()
        with pytest.raises(CallError, match="TLS with") as caught:
            connected.call(REQUEST, TIMEOUT_S)
        assert caught.value.kind == "ServerUnreachableError"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_making_a_connection_does_no_input_or_output(scheme: str) -> None:
    connected = partial(connector, model="model", version="", access=Access())(f"{scheme}://no.such.host.invalid")()
    connected.close()
