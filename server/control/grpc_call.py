"""One unary gRPC call with the standard library, of which only is known whether it succeeded.

The package grpcio would take 19 MB in an image that has no other use for it. What is left out with it: a refusal's
words, which come compressed (HPACK); whoever needs them asks elsewhere. Answers of more than 64 KiB would never end.

    client                                  server
    preface, SETTINGS, HEADERS, DATA ──────►
                                    ◄────── SETTINGS, HEADERS, DATA, HEADERS   succeeded
                                    ◄────── SETTINGS, HEADERS                  refused: no message, so no DATA
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
ACK, END_STREAM, END_HEADERS = 0x1, 0x1, 0x4
STREAM = 1
POLL_S = 0.05
CONNECT_TIMEOUT_S = 5.0


def succeeds(
    address: tuple[str, int],
    path: str,
    message: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    interrupted: Callable[[], bool],
) -> bool:
    """Calls; whether the server answered with a message.

    Args:
        address: host and port.
        path: ``/package.Service/Method``.
        message: the request, as protobuf.
        headers: further metadata.
        timeout_s: for the answer.
        interrupted: asked while waiting; True gives up.

    Raises:
        OSError: there is no connection, or it broke.
        TimeoutError: the server did not answer in time, or this was interrupted.
    """
    sent = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **headers,
    }
    deadline = time.monotonic() + timeout_s
    with socket.create_connection(address, timeout=CONNECT_TIMEOUT_S) as connection:
        connection.sendall(
            PREFACE
            + _frame(SETTINGS, 0, 0, b"")
            + _frame(HEADERS, END_HEADERS, STREAM, b"".join(_literal(*header) for header in sent.items()))
            + _frame(DATA, END_STREAM, STREAM, b"\0" + struct.pack(">I", len(message)) + message)
        )
        connection.settimeout(POLL_S)
        answered = False
        for kind, flags, stream, payload in _frames(connection, lambda: interrupted() or time.monotonic() > deadline):
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                connection.sendall(_frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                raise ConnectionError("the server is going away")
            elif stream == STREAM and kind in (DATA, HEADERS, RST_STREAM):
                answered |= kind == DATA
                if kind == RST_STREAM or flags & END_STREAM:
                    return answered
    raise ConnectionError("the connection ended before the answer")


def _frames(connection: socket.socket, give_up: Callable[[], bool]) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame that comes, until the connection ends."""
    received = b""
    while True:
        while len(received) >= 9 and len(received) >= 9 + (length := int.from_bytes(received[:3], "big")):
            stream = int.from_bytes(received[5:9], "big") & 0x7FFFFFFF
            yield received[3], received[4], stream, received[9 : 9 + length]
            received = received[9 + length :]
        if give_up():
            raise TimeoutError("no answer in time")
        try:
            more = connection.recv(65_536)
        except TimeoutError:
            continue
        if not more:
            return
        received += more


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """A header that nobody keeps: RFC 7541, 6.2.2, both strings as they are."""
    return b"\0" + b"".join(_length(len(text)) + text.encode() for text in (name, value))


def _length(number: int) -> bytes:
    """RFC 7541, 5.1, with a prefix of seven bits."""
    if number < 0x7F:
        return bytes([number])
    number, encoded = number - 0x7F, b"\x7f"
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])
