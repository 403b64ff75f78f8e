"""The calls of the tensor model under way: which ones compute, and when another one would.

As many compute as the tensor model has instances; what is called beyond that waits for the first that ends. How long
they take is foreseen from the last ones: a call's time is nearly proportional to its tokens.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

LAST = 10  # calls, of which the slowest counts: who foresees too much waits a moment, who foresees too little is late


@dataclass
class _Call:
    tokens: int
    started_s: float | None  # None: waits for an instance


class Calls:
    """Calls under way; times are seconds on one clock.

    Args:
        instances: of the tensor model.
    """

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._under_way: dict[int, _Call] = {}  # in order
        self._tickets = itertools.count()
        self._s_per_token: deque[float] = deque(maxlen=LAST)

    @property
    def idle(self) -> int:
        """Instances that have nothing to compute."""
        return max(0, self._instances - len(self._under_way))

    def begin(self, tokens: int, now_s: float) -> int:
        """One more; the ticket to end it with."""
        ticket = next(self._tickets)
        self._under_way[ticket] = _Call(tokens, now_s if self.idle else None)
        return ticket

    def end(self, ticket: int, now_s: float) -> None:
        """One is over; the first that waits computes."""
        ended = self._under_way.pop(ticket)
        if ended.started_s is None:
            return  # it was never needed
        self._s_per_token.append((now_s - ended.started_s) / ended.tokens)
        waiting = [call for call in self._under_way.values() if call.started_s is None]
        if waiting:
            waiting[0].started_s = now_s

    def next_start_s(self, now_s: float) -> float:
        """When a call that is made now is expected to compute."""
        if self.idle:
            return now_s
        s_per_token = max(self._s_per_token, default=0.0)
        calls = self._under_way.values()
        ends_s = sorted(call.started_s + call.tokens * s_per_token for call in calls if call.started_s is not None)
        waiting = len(calls) - len(ends_s)
        return max(now_s, ends_s[min(waiting, len(ends_s) - 1)])
