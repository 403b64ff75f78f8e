"""One call, as every user of a process makes it: ask, wait, check the reply, note it, tell Locust.

Owns that sequence and what the users of one process share for it. When to ask is `loadtest.generator.users`; what to
ask, and whether the reply is right, `loadtest.payloads`; how it travels, `loadtest.wire`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from loadtest.access import Access
from loadtest.cell import CellSpec
from loadtest.generator.recorder import CallLog
from loadtest.payloads import Payloads
from loadtest.target import Target
from loadtest.wire import CallError, Connection, Reply, Request, connector

WRONG_REPLY = "UnexpectedAnswerError"
KEPT = 32  # answers that are compared with the same request sent alone
REASK_BUDGET_S = 20.0

_clock = time.perf_counter


class Kept:
    """A uniform random sample of the answers given under load (reservoir sampling)."""

    def __init__(self, size: int = KEPT, *, seed: int = 0) -> None:
        self.pairs: list[tuple[Request, Reply]] = []
        self.keeping = False
        self._size = size
        self._seen = 0
        self._random = random.Random(seed)

    def offer(self, request: Request, reply: Reply) -> None:
        """Keeps it, or not, while ``keeping``."""
        if not self.keeping:
            return
        self._seen += 1
        if len(self.pairs) < self._size:
            self.pairs.append((request, reply))
        elif (place := int(self._random.random() * self._seen)) < self._size:
            self.pairs[place] = (request, reply)


class Desk:
    """What the users of one process share.

    Attributes:
        spec: the load.
        target: whom they ask.
        payloads: what they ask.
        log: where calls are noted.
        kept: some of the answers.
        process_index: of this process in the cell.
        processes: how many share the load.
        users_up: users whose first call has ended, well or not.
        closed: no user begins another call.
        broken: what a user died of; "" if none did.
    """

    def __init__(
        self,
        spec: CellSpec,
        target: Target,
        access: Access,
        log: CallLog,
        fire: Callable[..., None],
        *,
        process_index: int = 0,
        processes: int = 1,
    ) -> None:
        """Prepares texts and connections; nothing is sent.

        Args:
            spec: the load.
            target: whom to ask.
            access: headers and certificates.
            log: where calls are noted.
            fire: fires Locust's ``request`` event.
            process_index: of this process in the cell.
            processes: how many share the load.

        Raises:
            UsageError: texts, batch size or URL that cannot be.
        """
        self.spec = spec
        self.target = target
        self.payloads = Payloads(spec, target, process_index=process_index)
        self.log = log
        self.kept = Kept(-(-KEPT // processes), seed=process_index)
        self.process_index = process_index
        self.processes = processes
        self.users_up = 0
        self.closed = False
        self.broken = ""
        self.connect = connector(target.url, target.model, spec.version, access)
        self.fire = fire
        self.protocol = spec.protocol
        self.wall_clock_offset_s = time.time() - _clock()

    def caller(self) -> Caller:
        """A new connection; it opens with its first call."""
        return Caller(self, self.connect())

    def reask(self) -> tuple[int, int]:
        """Asks the kept requests again, one at a time: how many were answered, and how many of them differently."""
        deadline_s = _clock() + REASK_BUDGET_S
        connection = self.connect()
        reasked = changed = 0
        try:
            for request, reply in self.kept.pairs:
                if _clock() > deadline_s:
                    break
                again = connection.call(request, min(self.spec.timeout_s, REASK_BUDGET_S))
                reasked += 1
                changed += not self.payloads.same(reply, again)
        except CallError:
            pass  # a server that has gone since says nothing about its answers
        finally:
            connection.close()
        return reasked, changed


class Caller:
    """One connection and what it takes to use it."""

    def __init__(self, desk: Desk, connection: Connection) -> None:
        self._desk = desk
        self._connection = connection

    def call(self, request: Request, intended_s: float | None = None) -> str | None:
        """One call and its Locust ``request`` event; returns the kind of failure, or None.

        Args:
            request: what to ask.
            intended_s: open workload: when it was to be sent; latency counts from there.
        """
        desk = self._desk
        sent_s = _clock()
        begin_s = sent_s if intended_s is None else intended_s
        ticket = desk.log.begun(begin_s, sent_s, len(request.body))
        reply: Reply | None = None
        error: CallError | None = None
        try:
            reply = self._connection.call(request, desk.spec.timeout_s)
            end_s = _clock()
        except CallError as exc:
            end_s = _clock()
            error = exc
        else:
            wrong = desk.payloads.check(reply)
            if wrong is None:
                desk.kept.offer(request, reply)
            else:
                error = CallError(WRONG_REPLY, wrong)
        kind, message = (error.kind, error.message) if error else (None, "")
        desk.log.ended(ticket, begin_s, end_s, kind, message)
        self._tell_locust(begin_s, end_s, reply, error)
        return kind

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _tell_locust(self, begin_s: float, end_s: float, reply: Reply | None, error: CallError | None) -> None:
        desk = self._desk
        event: dict[str, Any] = {
            "request_type": desk.protocol,
            "name": desk.target.model,
            "response_time": (end_s - begin_s) * 1e3,
            "response_length": len(reply.body) if reply else 0,
            "exception": error,
            "context": {},
            "start_time": begin_s + desk.wall_clock_offset_s,
        }
        desk.fire(**event)
