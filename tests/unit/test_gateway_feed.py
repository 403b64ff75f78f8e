"""Lines for mtail: none is lost while it reads, none waits without bound while it does not."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.gateway import feed
from deploy.gateway.feed import Feed


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="feed_") as folder:  # a socket's path is short
        yield Path(folder) / "socket"


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(60)
    return listener


def read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while found.count(b"\n") < count:
        found += connection.recv(65536)
    return found


def test_lines_sent_before_anybody_listens_arrive(path: Path) -> None:
    lines = Feed(path)
    try:
        lines.send(b"first\nsecond\n")
        with listen(path) as listener, listener.accept()[0] as connection:
            lines.send(b"third\n")
            assert read(connection, 3) == b"first\nsecond\nthird\n"
    finally:
        lines.close(60)
    assert lines.dropped_lines == 0


def test_it_finds_who_listens_again(path: Path) -> None:
    lines = Feed(path)
    try:
        lines.send(b"first\n")
        with listen(path) as listener, listener.accept()[0] as connection:
            assert read(connection, 1) == b"first\n"
        path.unlink()
        lines.send(b"second\n")
        with listen(path) as listener, listener.accept()[0] as connection:
            assert read(connection, 1) == b"second\n"
    finally:
        lines.close(60)


def test_what_nobody_reads_is_bounded_and_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MAX_WAITING_BYTES", 100)
    lines = Feed(path)
    for _ in range(50):
        lines.send(b"12345\n6789\n")
    assert 80 <= lines.dropped_lines < 100  # nine fit, and one may be on its way
    lines.close(0)


def test_it_ends_though_nobody_reads(path: Path) -> None:
    with listen(path) as listener:
        lines = Feed(path)
        lines.send(b"x" * 2**20 + b"\n")
        lines.send(b"x" * 2**20 + b"\n")
        with listener.accept()[0]:
            lines.close(0.2)
