"""An OpenTelemetry collector as small as one can be: keeps what it is sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """Receives OTLP over HTTP, as JSON, on a free port of this machine.

    Args:
        status: what it answers.

    Attributes:
        received: the messages, each with the path and content type that it came with.
        arrived: released once a message.
    """

    def __init__(self, status: int = 200) -> None:
        received: list[dict[str, Any]] = []
        self.received, self.arrived = received, threading.Semaphore(0)
        arrived = self.arrived

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.append({"path": self.path, "type": self.headers["content-type"], **body})
                self.send_response(status)
                self.end_headers()
                arrived.release()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """For exporters."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[dict[str, Any]]:
        """Every span that came so far."""
        resources = [resource for message in list(self.received) for resource in message["resourceSpans"]]
        return [span for resource in resources for scope in resource["scopeSpans"] for span in scope["spans"]]
