"""JSON over HTTP/1.1 with connections that are kept, one a thread: as light as a client in Python can be."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import Any

TIMEOUT_S = 120.0


class HttpError(RuntimeError):
    """The server answered with another status than 200."""


class JsonClient:
    """Posts JSON to one server; thread-safe.

    Args:
        host: of the server.
        port: of the server.
        timeout_s: for one answer.
    """

    def __init__(self, host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._of_thread = threading.local()
        self._connections: set[http.client.HTTPConnection] = set()

    def close(self) -> None:
        """Closes every thread's connection; nobody asks any more."""
        for connection in list(self._connections):
            connection.close()

    def post(self, path: str, body: Any) -> Any:
        """The decoded answer.

        Raises:
            HttpError: another status than 200; the message begins with it.
            OSError: no connection, or no answer in time.
        """
        content = json.dumps(body).encode()
        status, answer = self._exchange(path, content)
        if status != http.client.OK:
            raise HttpError(f"{status} {answer[:200].decode(errors='replace')}")
        return json.loads(answer)

    def _exchange(self, path: str, content: bytes) -> tuple[int, bytes]:
        """Once more over a new connection where the server had closed the kept one between two requests."""
        with contextlib.suppress(http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if getattr(self._of_thread, "connection", None) is not None:
                return self._ask(self._of_thread.connection, path, content)
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        self._of_thread.connection = connection
        self._connections.add(connection)
        return self._ask(connection, path, content)

    def _ask(self, connection: http.client.HTTPConnection, path: str, content: bytes) -> tuple[int, bytes]:
        try:
            connection.request("POST", path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except BaseException:
            connection.close()
            self._connections.discard(connection)
            self._of_thread.connection = None
            raise
