"""gRPC over HTTP/2 against a server that says exactly what a test writes: real sockets, real bytes, every odd frame."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from loadtest.access import Access
from loadtest.wire import CallError, Connection, Reply, Request, connector, frames, sockets
from loadtest.wire.frames import frame
from loadtest.wire.hpack import encode, table_size_update
from tests.unit.scripted_peer import OK_HEADERS, OK_TRAILERS, Frame, Peer, ScriptedServer, good_answer, message

REQUEST = Request(b"a question", 0)
TIMEOUT_S = 30.0
END = frames.END_HEADERS | frames.END_STREAM


def connection(server: ScriptedServer, access: Access | None = None) -> contextlib.closing[Connection]:
    return contextlib.closing(connector(f"grpc://{server.authority}", "model", "", access or Access())())


def ask(connected: Connection, body: bytes = b"a question", timeout_s: float = TIMEOUT_S) -> bytes:
    reply = connected.call(Request(body, 0), timeout_s)
    assert isinstance(reply, Reply)
    assert reply.head_size is None
    return reply.body


def kind_of(connected: Connection, timeout_s: float = TIMEOUT_S) -> str:
    with pytest.raises(CallError) as caught:
        connected.call(REQUEST, timeout_s)
    return caught.value.kind


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def one_good_call(peer: Peer) -> None:
    peer.greet()
    peer.serve(b"good")


# --- A call ---------------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        assert peer.request() == (1, message(b"a question"))
        assert peer.headers == {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": b"/inference.GRPCInferenceService/ModelInfer",
            b":authority": server.authority.encode(),
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            b"user-agent": b"bert-triton-loadtest",
            b"authorization": b"Bearer x",
            b"key-bin": b"YWI",
            b"grpc-timeout": b"30000000u",
        }
        settings = next(frame for frame in peer.seen if frame.kind == frames.SETTINGS)
        assert struct.pack(">HI", frames.HEADER_TABLE_SIZE, 0) in settings.payload
        peer.answer(1, b"reply")

    with (
        ScriptedServer(script) as server,
        connection(server, Access({"Authorization": "Bearer x", "key-bin": "ab"})) as connected,
    ):
        assert ask(connected) == b"reply"


@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_an_answer_in_pieces_and_calls_one_after_another(piece: int) -> None:
    def script(peer: Peer) -> None:
        assert peer.exactly(len(frames.PREFACE)) == frames.PREFACE
        peer.send(frames.settings_frame({}), piece=piece)
        for index in range(3):
            stream_id, data = peer.request()
            assert (stream_id, data) == (2 * index + 1, message(b"a question"))
            peer.answer(stream_id, b"reply %d" % index, piece=piece)

    with ScriptedServer(script) as server, connection(server) as connected:
        assert [ask(connected) for _ in range(3)] == [b"reply 0", b"reply 1", b"reply 2"]


def test_headers_of_the_host_and_of_other_versions_of_ipv() -> None:
    def script(peer: Peer) -> None:
        one_good_call(peer)
        assert peer.headers[b":authority"] == b"elsewhere:80"

    try:
        server = ScriptedServer(script, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6; run on one that has")
    with server, connection(server, Access({"host": "elsewhere:80"})) as connected:
        assert ask(connected) == b"good"


def test_large_headers_are_continued() -> None:
    def script(peer: Peer) -> None:
        one_good_call(peer)
        assert peer.headers[b"token"] == b"x" * 50_000
        assert max(len(frame.payload) for frame in peer.seen) <= frames.SMALLEST_FRAME_BYTES

    with ScriptedServer(script) as server, connection(server, Access({"token": "x" * 50_000})) as connected:
        assert ask(connected) == b"good"


# --- Frames that a server may send ------------------------------------------------------------------


def test_padding_priority_and_continuations() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        data = message(b"reply")
        padded = frames.PADDED
        peer.send(
            frame(frames.HEADERS, padded | frames.WITH_PRIORITY, 1, b"\x03" + b"\0" * 5 + OK_HEADERS[:4] + b"pad"),
            frame(frames.CONTINUATION, 0, 1, OK_HEADERS[4:9]),
            frame(frames.CONTINUATION, frames.END_HEADERS, 1, OK_HEADERS[9:]),
            frame(frames.DATA, padded, 1, b"\x00" + data[:4]),
            frame(frames.DATA, padded, 1, b"\xff" + data[4:6] + b"p" * 255),
            frame(frames.DATA, 0, 1, b""),
            frame(frames.DATA, 0, 1, data[6:]),
            frame(frames.HEADERS, frames.END_STREAM, 1, b""),
            frame(frames.CONTINUATION, frames.END_HEADERS, 1, OK_TRAILERS),
            piece=5,
        )

    with ScriptedServer(script) as server, connection(server) as connected:
        assert ask(connected) == b"reply"


def test_what_a_server_says_out_of_turn() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        peer.send(frame(frames.PING, 0, 0, b"12345678"), frame(frames.PING, frames.ACK, 0, b"87654321"))
        acknowledgement = peer.wait_for(frames.PING)  # before the answer: the client must not keep it until later
        assert (acknowledgement.flags, acknowledgement.payload) == (frames.ACK, b"12345678")
        assert Frame(frames.SETTINGS, frames.ACK, 0, b"") in peer.seen
        peer.send(
            frame(0xFE, 0xFF, 77, b"an extension"),
            frame(frames.PRIORITY, 0, 1, b"\0" * 5),
            frame(frames.SETTINGS, frames.ACK, 0),
            frames.settings_frame({0x3: 100, 0x6: 16384, 0xFE03: 1}),
            frame(frames.HEADERS, frames.END_HEADERS, 1, encode([(":status", "103"), ("link", "x")])),
        )
        peer.answer(1, b"reply")

    with ScriptedServer(script) as server, connection(server) as connected:
        assert ask(connected) == b"reply"


def test_a_server_that_uses_the_table_all_the_same() -> None:
    insert = b"\x48\x03200" + b"\x5f\x10application/grpc" + b"\x40\x0bgrpc-status\x010"

    def script(peer: Peer) -> None:
        peer.greet()
        for block in (insert, b"\xc0\xbf\xbe"):
            stream_id, _ = peer.request()
            peer.send(frame(frames.HEADERS, frames.END_HEADERS, stream_id, OK_HEADERS))
            peer.send(frame(frames.DATA, 0, stream_id, message(b"reply")))
            peer.send(frame(frames.HEADERS, END, stream_id, block))

    with ScriptedServer(script) as server, connection(server) as connected:
        assert [ask(connected), ask(connected)] == [b"reply", b"reply"]


# --- Flow control -----------------------------------------------------------------------------------


def test_a_large_request_waits_for_the_servers_credit() -> None:
    body = bytes(range(256)) * 1024  # 262,149 bytes with the prefix

    def read(peer: Peer, size: int) -> bytes:
        data = b""
        while len(data) < size:
            found = peer.wait_for(frames.DATA)
            assert len(found.payload) <= frames.SMALLEST_FRAME_BYTES
            data += found.payload
        assert len(data) == size
        while select.select([peer.socket], [], [], 0.1)[0]:
            assert peer.frame().kind != frames.DATA  # not a byte more than allowed
        return data

    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1000}))
        peer.wait_for(frames.HEADERS)
        data = read(peer, 65535)  # the client could not know
        peer.send(frame(frames.WINDOW_UPDATE, 0, 0, word(10**6)))  # the stream has none left: 1000 - 65535
        peer.send(frame(frames.WINDOW_UPDATE, 0, 1, word(64535)))
        data += read(peer, 0)
        peer.send(frame(frames.WINDOW_UPDATE, 0, 1, word(20_000)))
        data += read(peer, 20_000)
        peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 6000}))
        data += read(peer, 5000)
        peer.send(frame(frames.WINDOW_UPDATE, 0, 1, word(10**6)))
        data += read(peer, len(body) + 5 - len(data))
        assert data == message(body)
        peer.answer(1, b"reply")

    with ScriptedServer(script) as server, connection(server) as connected:
        assert ask(connected, body) == b"reply"


def test_larger_frames_where_the_server_takes_them() -> None:
    body = b"x" * 40_000

    def script(peer: Peer) -> None:
        peer.greet({frames.MAX_FRAME_SIZE: 50_000})
        peer.serve(b"reply")
        peer.seen.clear()
        assert peer.request() == (3, message(body))
        assert [len(frame.payload) for frame in peer.seen if frame.kind == frames.DATA] == [40_005]
        peer.answer(3, b"reply")

    with ScriptedServer(script) as server, connection(server) as connected:
        assert [ask(connected), ask(connected, body)] == [b"reply", b"reply"]


def test_a_large_answer_gets_credit_of_stream_and_connection() -> None:
    body = bytes(range(256)) * (40 * 4096)  # 40 MB

    def send(peer: Peer, stream_id: int, windows: dict[int, int], data: bytes) -> None:
        at = 0
        while at < len(data):
            size = min(16384, windows[0], windows[stream_id], len(data) - at)
            if size == 0:
                update = peer.wait_for(frames.WINDOW_UPDATE)
                windows[update.stream_id] = windows.get(update.stream_id, 0) + struct.unpack(">I", update.payload)[0]
                continue
            peer.send(frame(frames.DATA, 0, stream_id, data[at : at + size]))
            at += size
            windows[0] -= size
            windows[stream_id] -= size

    def script(peer: Peer) -> None:
        peer.greet()
        windows = {0: 65535}
        for stream_id in (1, 3):
            assert peer.request()[0] == stream_id
            for said in peer.seen:
                if said.kind == frames.SETTINGS and not said.flags:
                    settings = dict(struct.iter_unpack(">HI", said.payload))
                elif said.kind == frames.WINDOW_UPDATE and said.stream_id == 0 and stream_id == 1:
                    windows[0] += struct.unpack(">I", said.payload)[0]
            windows[stream_id] = settings[frames.INITIAL_WINDOW_SIZE]
            peer.send(good_answer(stream_id, b"")[0])
            send(peer, stream_id, windows, message(body))
            peer.send(good_answer(stream_id, b"")[2])

    with ScriptedServer(script) as server, connection(server) as connected:
        assert ask(connected, timeout_s=30) == body
        assert ask(connected, timeout_s=30) == body


def test_an_answer_before_the_request_was_read() -> None:
    refusal = encode([(":status", "200"), ("grpc-status", "8"), ("grpc-message", "message larger than max")])

    def script(peer: Peer) -> None:
        peer.greet()
        peer.wait_for(frames.HEADERS)
        peer.send(frame(frames.HEADERS, END, 1, refusal))
        assert peer.wait_for(frames.RST_STREAM).stream_id == 1
        peer.send(frame(frames.WINDOW_UPDATE, 0, 0, word(10**6)))
        assert peer.serve(b"good") == 3

    with ScriptedServer(script) as server, connection(server) as connected:
        with pytest.raises(CallError, match="larger than max") as caught:
            ask(connected, b"x" * 200_000)
        assert caught.value.kind == "InvalidRequestError"
        assert ask(connected) == b"good"


# --- Statuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"grpc-status": "3", "grpc-message": "TEXT[2]: 100%25 %C3%A9"}, "InvalidTextError", "text 2: 100% é"),
        (
            {"grpc-status": "14", "grpc-message": "Request for unknown model: 'x'"},
            "ModelNotFoundError",
            "unknown model",
        ),
        ({"grpc-status": "14", "grpc-message": "Exceeds maximum queue size"}, "OverloadedError", "queue size"),
        ({"grpc-status": "14", "grpc-message": "Socket closed"}, "ServerUnreachableError", "Socket closed"),
        ({"grpc-status": "4"}, "DeadlineExceededError", "no answer from grpc://127.0.0.1"),
        ({"grpc-status": "12", "grpc-message": "unknown service"}, "UnexpectedAnswerError", "unknown service"),
        ({"grpc-status": "13", "grpc-message": "broke"}, "ServerFaultError", "broke"),
        ({"grpc-status": "99"}, "UnexpectedAnswerError", "unknown gRPC status 99"),
        ({":status": "502", "content-type": "text/html"}, "ServerUnreachableError", "HTTP status 502"),
        ({":status": "401"}, "AccessDeniedError", "HTTP status 401"),
        ({":status": "404", "content-type": "text/html"}, "UnexpectedAnswerError", "HTTP status 404"),
        ({"content-type": "text/html"}, "ServerFaultError", "text/html"),
    ],
)
def test_a_refusal_is_the_clients_error(fields: dict[str, str], kind: str, text: str) -> None:
    """In the trailers, then in the headers of an answer without any; the connection goes on."""
    fields = {":status": "200", **fields}

    def script(peer: Peer) -> None:
        peer.greet()
        stream_id, _ = peer.request()
        peer.send(frame(frames.HEADERS, END, stream_id, encode(fields.items())))
        if "grpc-status" in fields:
            stream_id, _ = peer.request()
            trailers = [field for field in fields.items() if field[0] != ":status"]
            peer.send(frame(frames.HEADERS, frames.END_HEADERS, stream_id, OK_HEADERS))
            peer.send(frame(frames.HEADERS, END, stream_id, encode(trailers)))
        peer.serve(b"good")

    with ScriptedServer(script) as server, connection(server) as connected:
        for _ in range(2 if "grpc-status" in fields else 1):
            with pytest.raises(CallError) as caught:
                ask(connected)
            assert caught.value.kind == kind
            assert text in caught.value.message
        assert ask(connected) == b"good"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x7, "ServerUnreachableError"),
        (0x8, "ServerUnreachableError"),
        (0xB, "OverloadedError"),
        (0x1, "ServerFaultError"),
        (0x0, "ServerFaultError"),
        (0x99, "ServerFaultError"),
    ],
)
def test_a_reset_call(code: int, kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        peer.send(frame(frames.RST_STREAM, 0, 1, word(code)))
        assert peer.serve(b"good") == 3

    with ScriptedServer(script) as server, connection(server) as connected:
        assert kind_of(connected) == kind
        assert ask(connected) == b"good"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "without a message"),
        (b"\0\0\0", "without a message"),
        (b"\1" + message(b"reply")[1:], "compressed its answer"),
        (message(b"reply")[:-1], "4 bytes instead of a message of 5"),
        (message(b"reply") + message(b"reply"), "15 bytes instead of a message of 5"),
    ],
)
def test_an_answer_that_is_no_message(data: bytes, text: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        headers, _, trailers = good_answer(1, b"")
        peer.send(headers, frame(frames.DATA, 0, 1, data), trailers)

    with ScriptedServer(script) as server, connection(server) as connected:
        with pytest.raises(CallError, match=text) as caught:
            ask(connected)
        assert caught.value.kind == "UnexpectedAnswerError"


# --- The end of a connection --------------------------------------------------------------------------


def test_going_away_without_an_answer_is_a_failure_and_the_next_call_connects() -> None:
    def leaves(peer: Peer) -> None:
        peer.greet()
        peer.request()
        peer.send(frame(frames.GOAWAY, 0, 0, word(0) + word(0xB) + b"too many"))
        assert peer.ended()

    with ScriptedServer(leaves, one_good_call) as server, connection(server) as connected:
        with pytest.raises(CallError, match=r"ENHANCE_YOUR_CALM: too many") as caught:
            ask(connected)
        assert caught.value.kind == "ServerUnreachableError"
        assert ask(connected) == b"good"


def test_going_away_after_the_answer_costs_nothing() -> None:
    def leaves(peer: Peer) -> None:
        peer.greet()
        peer.request()
        peer.send(frame(frames.GOAWAY, 0, 0, word(2**31 - 1) + word(0)))
        peer.answer(1, b"last")
        assert peer.ended()

    with ScriptedServer(leaves, one_good_call) as server, connection(server) as connected:
        assert [ask(connected), ask(connected)] == [b"last", b"good"]


@pytest.mark.parametrize("farewell", [b"", frame(frames.GOAWAY, 0, 0, word(1) + word(0))])
def test_a_connection_that_ended_between_calls_is_replaced(farewell: bytes) -> None:
    def leaves(peer: Peer) -> None:
        one_good_call(peer)
        peer.send(farewell)

    with ScriptedServer(leaves, one_good_call) as server, connection(server) as connected:
        assert ask(connected) == b"good"
        server.wait_for_end()
        time.sleep(2 * sockets._FRESH_S)  # one that was used just now is not looked at
        assert ask(connected) == b"good"


def test_a_lost_answer_is_a_failure_and_not_tried_again() -> None:
    def loses(peer: Peer) -> None:
        peer.greet()
        peer.request()
        peer.send(good_answer(1, b"reply")[0])

    with ScriptedServer(loses, one_good_call) as server, connection(server) as connected:
        assert kind_of(connected) == "ServerUnreachableError"
        assert server.connections == 1
        assert ask(connected) == b"good"


def test_a_closed_connection_connects_anew() -> None:
    with ScriptedServer(one_good_call, one_good_call) as server, connection(server) as connected:
        assert ask(connected) == b"good"
        connected.close()
        assert ask(connected) == b"good"


def test_the_last_stream_of_a_connection_is_followed_by_a_new_one() -> None:
    def script(peer: Peer) -> None:
        one_good_call(peer)
        assert peer.serve(b"last") == 2**31 - 1
        assert peer.ended()

    with ScriptedServer(script, one_good_call) as server, connection(server) as connected:
        ask(connected)
        connected._channel._stream_id = 2**31 - 3  # type: ignore[attr-defined]  # a thousand million calls later
        assert [ask(connected), ask(connected)] == [b"last", b"good"]


# --- Deadlines ----------------------------------------------------------------------------------------


def test_a_late_call_is_cancelled_and_its_answer_passed_over() -> None:
    insert = encode([(":status", "200")]) + b"\x40\x0bgrpc-status\x010"

    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        assert peer.headers[b"grpc-timeout"] == b"1000000u"
        reset = peer.wait_for(frames.RST_STREAM)
        assert (reset.stream_id, reset.payload) == (1, word(frames.CANCEL))
        headers, data, _ = good_answer(1, b"late")
        peer.send(headers, data, frame(frames.HEADERS, END, 1, insert))
        peer.request()
        headers, data, _ = good_answer(3, b"good")
        peer.send(headers, data, frame(frames.HEADERS, END, 3, b"\xbe"))  # what the late answer put into the table

    with ScriptedServer(script) as server, connection(server) as connected:
        started = time.monotonic()
        assert kind_of(connected, 1.0) == "DeadlineExceededError"
        assert 1.0 <= time.monotonic() - started < TIMEOUT_S
        assert ask(connected) == b"good"


def test_a_request_that_is_stuck_halfway_costs_the_connection() -> None:
    def stuck(peer: Peer) -> None:
        peer.greet({frames.INITIAL_WINDOW_SIZE: 2**31 - 1, frames.MAX_FRAME_SIZE: 2**24 - 1})
        peer.send(frame(frames.WINDOW_UPDATE, 0, 0, word(2**31 - 1 - 65535)))
        peer.serve(b"good")
        done.wait(TIMEOUT_S)  # reads nothing more

    done = threading.Event()
    with ScriptedServer(stuck, one_good_call) as server, connection(server) as connected:
        assert ask(connected) == b"good"
        with pytest.raises(CallError) as caught:
            ask(connected, b"x" * (64 * 2**20), 0.5)
        assert caught.value.kind == "DeadlineExceededError"
        done.set()
        assert ask(connected) == b"good"


def test_connecting_is_inside_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        address = full.getsockname()
        for _ in range(3):  # nobody accepts: after these the kernel answers no more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        connected = connector(f"grpc://127.0.0.1:{address[1]}", "model", "", Access())()
        started = time.monotonic()
        assert kind_of(connected, 0.5) == "DeadlineExceededError"
        assert time.monotonic() - started < TIMEOUT_S  # the kernel would try for minutes


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connected = connector(f"grpc://127.0.0.1:{port}", "model", "", Access())()
    with pytest.raises(
        CallError, match=rf"no connection to grpc://127\.0\.0\.1:{port}, or it broke: .*refused"
    ) as caught:
        connected.call(REQUEST, TIMEOUT_S)
    assert caught.value.kind == "ServerUnreachableError"


# --- Servers that are something else ------------------------------------------------------------------


def speaks_http(peer: Peer) -> None:
    peer.exactly(len(frames.PREFACE))
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hangs_up(peer: Peer) -> None:
    peer.exactly(len(frames.PREFACE))


def answers_health(peer: Peer) -> None:
    peer.until(b"\r\n\r\n")
    peer.send(b"HTTP/1.0 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("scripts", "kind"),
    [
        ([speaks_http], "WrongProtocolError"),
        ([hangs_up, answers_health], "WrongProtocolError"),
        ([hangs_up, hangs_up], "ServerUnreachableError"),
    ],
)
def test_a_port_that_does_not_speak_http2(scripts: list[Callable[[Peer], None]], kind: str) -> None:
    with ScriptedServer(*scripts, one_good_call) as server, connection(server) as connected:
        with pytest.raises(CallError) as caught:
            ask(connected)
        assert caught.value.kind == kind
        assert (f"write http://{server.authority}" in caught.value.message) == (kind == "WrongProtocolError")
        assert ask(connected) == b"good"


BROKEN: dict[str, bytes] = {
    "a frame too large": frames.frame_head(16385, frames.DATA, 0, 1),
    "a push": frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, word(2)),
    "data of no stream": frame(frames.DATA, 0, 0, b"x"),
    "data of a stream to come": frame(frames.DATA, 0, 3, b"x"),
    "headers of a server's stream": frame(frames.HEADERS, frames.END_HEADERS, 2, OK_HEADERS),
    "no increment": frame(frames.WINDOW_UPDATE, 0, 0, word(0)),
    "an increment of three bytes": frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1"),
    "a window that overflows": frame(frames.WINDOW_UPDATE, 0, 0, word(2**31 - 1)),
    "a stream's window that overflows": frame(frames.WINDOW_UPDATE, 0, 1, word(2**31 - 1)),
    "a continuation of nothing": frame(frames.CONTINUATION, frames.END_HEADERS, 1, OK_HEADERS),
    "a ping inside a block": frame(frames.HEADERS, 0, 1, OK_HEADERS) + frame(frames.PING, 0, 0, b"12345678"),
    "an endless block": frame(frames.HEADERS, 0, 1, b"") + frame(frames.CONTINUATION, 0, 1, b"x" * 16384) * 17,
    "padding alone": frame(frames.DATA, frames.PADDED, 1, b"\x01"),
    "padding without its length": frame(frames.DATA, frames.PADDED, 1, b""),
    "a block that is no block": frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"),
    "a table larger than offered": frame(frames.HEADERS, frames.END_HEADERS, 1, table_size_update(5000)),
    "settings of five bytes": frame(frames.SETTINGS, 0, 0, b"\0" * 5),
    "settings of a stream": frame(frames.SETTINGS, 0, 1),
    "a tiny frame size": frames.settings_frame({frames.MAX_FRAME_SIZE: 100}),
    "a window too large": frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**31}),
    "a short ping": frame(frames.PING, 0, 0, b"1234"),
    "a short reset": frame(frames.RST_STREAM, 0, 1, b"12"),
    "a short farewell": frame(frames.GOAWAY, 0, 0, b"1234"),
    "three header blocks": frame(frames.HEADERS, frames.END_HEADERS, 1, OK_HEADERS) * 2,
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN)
def test_a_server_that_breaks_the_rules(said: bytes) -> None:
    def breaks(peer: Peer, said: bytes) -> None:
        peer.greet()
        peer.request()
        peer.send(said)
        assert peer.ended()

    with ScriptedServer(partial(breaks, said=said), one_good_call) as server, connection(server) as connected:
        assert kind_of(connected) == "UnexpectedAnswerError"
        assert ask(connected) == b"good"
