"""Lets requests that came over gRPC end before a Triton that was asked to stop unloads its models.

Triton (2.51) waits for its HTTP connections first, then unloads all models at once, and ends gRPC last. A text model
whose tensor model is gone fails what it has, and whoever still sends gets NOT_FOUND. So as long as somebody is
connected over gRPC one idle HTTP connection is kept, up to the time that a stop may take.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from server.endpoints import Endpoints

ESTABLISHED = "01"  # as /proc/net/tcp writes it
POLL_S = 0.1
# Of the time for a stop, what is left to Triton for ending what nobody waits for any more.
LEFT_S = 1.0


def connected(port: int) -> bool:
    """Whether a client is connected to ``port`` of this machine (network namespace)."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def hold(endpoints: Endpoints, exit_timeout_s: float, ended: Callable[[], bool]) -> None:
    """Keeps an HTTP connection, from a thread, while anybody is connected over gRPC; to be called before the signal.

    Args:
        endpoints: of the server.
        exit_timeout_s: how long its stop may take.
        ended: whether the process is gone.
    """
    held_s = exit_timeout_s - LEFT_S
    if held_s <= 0 or not connected(endpoints.grpc_port):
        return
    try:
        connection = socket.create_connection((endpoints.connect_host, endpoints.http_port), timeout=POLL_S)
    except OSError:
        return  # it takes none: it is ending already, or too busy

    def release() -> None:
        deadline = time.monotonic() + held_s
        with connection:
            while not ended() and time.monotonic() < deadline and connected(endpoints.grpc_port):
                time.sleep(POLL_S)

    threading.Thread(target=release, name="triton-drain", daemon=True).start()
