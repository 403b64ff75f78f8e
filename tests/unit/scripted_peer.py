"""A server that says exactly what a test writes down: a real socket, one script a connection, no protocol library."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from loadtest.wire import frames, hpack

TIMEOUT_S = 60.0
LAST_WORDS_S = 0.05  # an acknowledgement that the client sent before it read the end
OK_HEADERS = hpack.encode([(":status", "200"), ("content-type", "application/grpc")])
OK_TRAILERS = hpack.encode([("grpc-status", "0")])


class Frame(NamedTuple):
    """One HTTP/2 frame."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(TIMEOUT_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.seen: list[Frame] = []
        self.decoder = hpack.Decoder()
        self.headers: dict[bytes, bytes] = {}

    def exactly(self, size: int) -> bytes:
        """The next bytes."""
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, f"the client closed the connection after {data!r}"
            data += part
        return data

    def until(self, end: bytes) -> bytes:
        """Everything up to and including ``end``, read byte by byte."""
        data = b""
        while not data.endswith(end):
            data += self.exactly(1)
        return data

    def ended(self) -> bool:
        """Waits for the client to close the connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def send(self, *parts: bytes, piece: int = 2**20) -> None:
        """Sends in pieces of so many bytes."""
        data = b"".join(parts)
        for at in range(0, len(data), piece):
            self.socket.sendall(data[at : at + piece])

    # --- HTTP/1.1 ---

    def http_request(self) -> tuple[bytes, bytes]:
        """Head and body."""
        head = self.until(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        return head, self.exactly(int(length.split()[1]))

    # --- HTTP/2 ---

    def frame(self) -> Frame:
        """The next frame; it is also remembered in ``seen``."""
        length, kind, flags, stream_id = self.exactly(3), *struct.unpack(">BBI", self.exactly(6))
        found = Frame(kind, flags, stream_id, self.exactly(int.from_bytes(length, "big")))
        self.seen.append(found)
        return found

    def wait_for(self, kind: int) -> Frame:
        """The next frame of a type."""
        while (found := self.frame()).kind != kind:
            pass
        return found

    def greet(self, settings: dict[int, int] | None = None) -> None:
        """Reads the preface and sends settings."""
        assert self.exactly(len(frames.PREFACE)) == frames.PREFACE
        self.send(frames.settings_frame(settings or {}))

    def request(self) -> tuple[int, bytes]:
        """Stream and data of the next whole request; its headers are in ``headers``."""
        while True:
            head = self.wait_for(frames.HEADERS)
            block, flags = head.payload, head.flags
            while not flags & frames.END_HEADERS:
                more = self.wait_for(frames.CONTINUATION)
                block, flags = block + more.payload, more.flags
            self.headers = dict(self.decoder.decode(block))
            data = b""
            while True:
                part = self.wait_for(frames.DATA)
                data += part.payload
                if part.flags & frames.END_STREAM:
                    return head.stream_id, data

    def answer(self, stream_id: int, body: bytes, *, piece: int = 2**20) -> None:
        """A good gRPC answer."""
        self.send(*good_answer(stream_id, body), piece=piece)

    def serve(self, body: bytes) -> int:
        """Answers one request; returns its stream."""
        stream_id, _ = self.request()
        self.answer(stream_id, body)
        return stream_id


def message(body: bytes) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", 0, len(body)) + body


def good_answer(stream_id: int, body: bytes) -> list[bytes]:
    """The frames of a good gRPC answer."""
    return [
        frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, OK_HEADERS),
        frames.frame(frames.DATA, 0, stream_id, message(body)),
        frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, OK_TRAILERS),
    ]


def _finish(connected: socket.socket) -> None:
    """Ends what is sent and reads what is on its way: a socket closed before that resets the connection."""
    with contextlib.suppress(OSError):  # the script closed it, or the client has nothing more to say
        connected.shutdown(socket.SHUT_WR)
        connected.settimeout(LAST_WORDS_S)
        while connected.recv(65536):
            pass


class ScriptedServer:
    """Runs one script a connection, one after another; what fails in a script fails the test."""

    def __init__(self, *scripts: Callable[[Peer], None], host: str = "127.0.0.1") -> None:
        self._scripts = scripts
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.settimeout(TIMEOUT_S)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.port = self._listener.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.connections = 0
        self._ends = threading.Semaphore(0)

    def _run(self) -> None:
        try:
            for script in self._scripts:
                with self._listener.accept()[0] as connected:
                    self.connections += 1
                    script(Peer(connected))
                    _finish(connected)
                self._ends.release()
        except BaseException as exc:  # noqa: BLE001  # raised again in the test's thread
            self._failure = exc

    def wait_for_end(self) -> None:
        """Waits until the next connection has been closed on this side; the client's socket knows by then."""
        assert self._ends.acquire(timeout=TIMEOUT_S), "the script has not ended"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, failure: BaseException | None, *__: object) -> None:
        self._thread.join(TIMEOUT_S)
        self._listener.close()
        if failure is not None:
            failure.add_note(f"the script: {self._failure!r}")
            return
        assert not self._thread.is_alive(), "the script waits for something that the client does not send"
        if self._failure is not None:
            raise self._failure
