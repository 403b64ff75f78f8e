"""One way back to a caller after ``execute`` has returned: Triton's response sender, used once."""

from __future__ import annotations

import threading
from typing import Any

import triton_python_backend_utils as pb_utils


class Reply:
    """Sends one response to a request.

    Triton frees what is behind the sender with the response, so asking it anything at that moment or later would crash
    the server: both happen under a lock.

    Args:
        request: Triton's; not kept.
    """

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self._lock = threading.Lock()
        self._sent = False

    def is_cancelled(self) -> bool:
        """Whether the caller has gone; False once answered. A round trip to the server process."""
        with self._lock:
            return not self._sent and bool(self._sender.is_cancelled())

    def send(self, response: Any) -> None:
        """Answer; a round trip to the server process. Does nothing the second time."""
        with self._lock:
            if not self._sent:
                self._sent = True
                self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
