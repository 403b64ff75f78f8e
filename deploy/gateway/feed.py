"""Lines for mtail, over its Unix socket, without ever holding up those who write them.

mtail reads several kinds of sources. A stream socket loses no line in a burst (a datagram socket holds ten), needs no
file that grows, and tells when mtail is gone.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import threading
from pathlib import Path

MAX_WAITING_BYTES = 4 * 2**20  # about 10,000 requests
RECONNECT_S = 0.2


class Feed:
    """Sends lines from a thread; what does not fit while mtail is gone or slow is dropped, and counted.

    Args:
        path: mtail's socket; it may come later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="feed")
        self._thread.start()

    @property
    def dropped_lines(self) -> int:
        """How many lines mtail never got."""
        return self._dropped

    def send(self, lines: bytes) -> None:
        """Whole lines, each with its line feed."""
        with self._changed:
            if self._waiting_bytes + len(lines) > MAX_WAITING_BYTES:
                self._dropped += lines.count(b"\n")
                return
            self._waiting.append(lines)
            self._waiting_bytes += len(lines)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Sends what waits, for so long, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        self._ended.set()
        self._disconnect()
        self._thread.join()
        self._disconnect()  # it may just have connected

    def _run(self) -> None:
        while (lines := self._next()) is not None:
            while not self._delivered(lines) and not self._ended.wait(RECONNECT_S):
                pass

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            if self._ended.is_set():
                return None
            lines = self._waiting.popleft()
            self._waiting_bytes -= len(lines)
            return lines

    def _delivered(self, lines: bytes) -> bool:
        try:
            self._connected().sendall(lines)
        except OSError:
            self._disconnect()
            return False
        return True

    def _connected(self) -> socket.socket:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                fresh.connect(str(self._path))
            except OSError:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket

    def _disconnect(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)  # wakes a thread that sends
            connected.close()
