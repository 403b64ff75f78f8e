"""Which Tritons can be asked now: names are resolved and every address is asked whether it is ready, again and again.

nginx resolves names only when it reads its configuration, and learns that a Triton is about to end only from requests
that fail. So a thread of the gateway looks, and the supervisor has nginx read a new configuration.

A Triton that was sent SIGTERM resets new HTTP connections, which is how it is noticed, but goes on answering, gRPC
too, as long as an HTTP connection that it knows is open. Without one it refuses what is under way at once. So one
connection to each Triton is held open until nginx sends it nothing any more.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from .settings import Triton

INTERVAL_S = 0.5
PROBE_TIMEOUT_S = 2.0
RESOLVE_TIMEOUT_S = 1.0
# A Triton whose machine is busy may once be late; one that refuses is gone.
MAX_LATE = 3


@dataclass(frozen=True, order=True)
class Replica:
    """One Triton: an address with its ports."""

    address: str  # IPv4 or IPv6
    http_port: int
    grpc_port: int

    @property
    def http(self) -> str:
        """``address:port``, with the brackets that IPv6 wants."""
        return f"{self._host}:{self.http_port}"

    @property
    def grpc(self) -> str:
        """As `http`."""
        return f"{self._host}:{self.grpc_port}"

    @property
    def _host(self) -> str:
        return f"[{self.address}]" if ipaddress.ip_address(self.address).version == 6 else self.address


def resolve(triton: Triton) -> frozenset[Replica]:
    """Every address of a name, or none. IPv6 only if there is no IPv4: they would be one Triton twice."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError):  # the second for a name that cannot be one
            found = socket.getaddrinfo(triton.host, triton.http_port, family, socket.SOCK_STREAM)
            addresses = {str(entry[4][0]) for entry in found}
            return frozenset(Replica(address, triton.http_port, triton.grpc_port) for address in addresses)
    return frozenset()


@dataclass
class _State:
    """What is known of one replica."""

    ready: bool = False
    late: int = 0  # probes in a row without an answer in time
    held: socket.socket | None = field(default=None, repr=False)


class Replicas:
    """Watches the replicas from a thread of its own.

    Args:
        tritons: names and ports.
        look_up: a name's replicas; by default what the system's resolver says.
    """

    def __init__(self, tritons: Sequence[Triton], look_up: Callable[[Triton], Iterable[Replica]] = resolve) -> None:
        self._tritons = tuple(tritons)
        self._look_up = look_up
        self._known: dict[Triton, frozenset[Replica]] = {}
        self._resolving: dict[Triton, Future[Iterable[Replica]]] = {}
        self._states: dict[Replica, _State] = {}
        self._serving: tuple[Replica, ...] = ()
        self._in_use: frozenset[Replica] = frozenset()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="probe")
        self._thread = threading.Thread(target=self._run, name="replicas")

    def start(self) -> None:
        """Looks once, then goes on in a thread."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and lets every Triton go."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for state in self._states.values():
            _release(state)

    @property
    def watching(self) -> bool:
        """Whether the thread lives: what it says is of now."""
        return self._thread.is_alive()

    @property
    def serving(self) -> tuple[Replica, ...]:
        """Those that nginx should ask, in order of their addresses.

        Those that are ready. If none is: those that were asked last, or all that are known, because a Triton that
        says it is not ready refuses in its own words, and one that answers again is asked at once.
        """
        with self._lock:
            return self._serving

    @property
    def ready_count(self) -> int:
        """How many are ready."""
        with self._lock:
            return sum(state.ready for state in self._states.values())

    def use(self, replicas: Iterable[Replica]) -> None:
        """Says to which replicas nginx may still send something; the others are let go."""
        with self._lock:
            self._in_use = frozenset(replicas)

    def look(self) -> None:
        """Resolves every name and asks every replica, once."""
        known = self._resolve()
        for gone in set(self._states) - known - self._in_use:
            _release(self._states.pop(gone))
        for replica in known:
            self._states.setdefault(replica, _State())
        asked = list(self._states)
        for replica, outcome in zip(asked, self._pool.map(_probe, asked), strict=True):
            self._note(replica, outcome)
        self._choose(known)

    # --- inside -----------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.look()

    def _resolve(self) -> set[Replica]:
        """What the names mean; a name that has no address now keeps those it had, which are asked anyway."""
        for triton in self._tritons:
            # A resolver that is out of reach takes seconds to say so.
            asked = self._resolving.pop(triton, None) or self._pool.submit(self._look_up, triton)
            try:
                found = frozenset(asked.result(RESOLVE_TIMEOUT_S))
            except TimeoutError:
                self._resolving[triton] = asked
            else:
                self._known[triton] = found or self._known.get(triton, found)
        return {replica for found in self._known.values() for replica in found}

    def _note(self, replica: Replica, outcome: _Outcome) -> None:
        state = self._states[replica]
        with self._lock:
            state.late = state.late + 1 if outcome.late else 0
            state.ready = outcome.ready or (outcome.late and state.ready and state.late < MAX_LATE)
        if outcome.connection is not None:
            if state.held is None or _is_closed(state.held):
                _release(state)
                state.held = outcome.connection
            else:
                outcome.connection.close()
        if not state.ready and replica not in self._in_use:
            _release(state)

    def _choose(self, known: set[Replica]) -> None:
        with self._lock:
            ready = sorted(replica for replica in known if self._states[replica].ready)
            kept = [replica for replica in self._serving if replica in known]
            self._serving = tuple(ready or kept or sorted(known))


@dataclass(frozen=True)
class _Outcome:
    """What one probe met; ``connection`` is open after an answer that says ready."""

    ready: bool = False
    late: bool = False
    connection: socket.socket | None = None


def _probe(replica: Replica) -> _Outcome:
    """Asks over a new connection: a Triton that is ending still answers over those that it has."""
    connection = http.client.HTTPConnection(replica.address, replica.http_port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        response.read()
        if response.status != http.client.OK or connection.sock is None:
            connection.close()
            return _Outcome(ready=response.status == http.client.OK)
    except TimeoutError:
        connection.close()
        return _Outcome(late=True)
    except (OSError, http.client.HTTPException):
        connection.close()
        return _Outcome()
    return _Outcome(ready=True, connection=connection.sock)


def _is_closed(held: socket.socket) -> bool:
    try:
        held.settimeout(0)
        return held.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _release(state: _State) -> None:
    if state.held is not None:
        with contextlib.suppress(OSError):
            state.held.close()
        state.held = None
