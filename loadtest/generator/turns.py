"""Users take turns: every call goes through the event loop, whatever the kernel's scheduling.

A reply is sometimes there before the process that asked has come back from sending: the kernel let the server go
first. gevent's sockets would then read it at once, without looking at the event loop. Of 64 users on a busy machine
one alone was seen to ask on and on while all others waited; made to take turns between calls only, they asked one
after the other, and the server never had more than one request. So a user waits in the event loop between sending
and receiving, as it does when the server is slow, and the others send meanwhile. `gevent.sleep(0)` is not enough
for that: it lets greenlets run, but looks at no socket.
"""

from __future__ import annotations

import socket
from typing import Any

import gevent.socket
from gevent.hub import get_hub


class PatientSocket(gevent.socket.socket):
    """gevent's socket, but it receives only after a wait in the event loop."""

    def recv(self, *arguments: Any) -> bytes:
        """As `socket.socket.recv`."""
        timeout_s = self.gettimeout()
        if timeout_s != 0:
            gevent.socket.wait_read(self.fileno(), timeout_s, TimeoutError("timed out"))
        return super().recv(*arguments)


def take_turns() -> None:
    """Makes the sockets of this process patient. TLS has sockets of another kind: for them there is `Turn`."""
    socket.socket = PatientSocket  # type: ignore[misc]


class Turn:
    """Ends a user's turn after each call, where the call itself did not wait in the event loop."""

    def __init__(self) -> None:
        self._hub = get_hub()
        self._loop = self._hub.loop
        self._round = self._now()

    def over(self) -> None:
        """Waits for the event loop to go round, unless it has since the turn before."""
        if self._now() == self._round:
            self._hub.wait(self._loop.timer(0))
        self._round = self._now()

    def _now(self) -> int:
        return int(self._loop.iteration)
