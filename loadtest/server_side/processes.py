"""CPU time and memory of the server's processes, if the server is on this machine.

Owns finding them: a process that was named, or the one that listens on the URL's port, and all its descendants
(Triton's Python backends run in processes of their own). Memory is the proportional set size (PSS): pages that several
of them share, libraries and shared tensors, count once in the sum, where resident set sizes would count them once a
process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from loadtest.errors import LoadTestError, UsageError
from loadtest.server_side import machine

# Processes that listen on a port for a server elsewhere. The first kind is always on the machine of its server.
FORWARDERS_HERE = ("docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "conmon")
FORWARDERS_ELSEWHERE = ("ssh", "sshd", "kubectl", "socat", "nginx", "haproxy", "envoy", "traefik", "caddy")

DEFAULT_PORTS = {"grpc": 8001, "http": 8000, "grpcs": 443, "https": 443}


class ProcessesError(LoadTestError):
    """The server's processes cannot be read from here."""


@dataclass(frozen=True)
class Usage:
    """What the server's processes have used so far.

    Attributes:
        cpu_s: user and system seconds since its start, of each process by its identity (pid, time of creation).
    """

    cpu_s: dict[tuple[int, float], float]

    def since(self, earlier: Usage) -> float:
        """CPU seconds between two readings; a process that ended in between is left out."""
        return sum(max(0.0, cpu_s - earlier.cpu_s.get(process, 0.0)) for process, cpu_s in self.cpu_s.items())


class ServerProcesses:
    """The processes of one server: its root and all that descend from it.

    Args:
        root: see `find`.
    """

    def __init__(self, root: psutil.Process) -> None:
        self.root = root

    def usage(self) -> Usage:
        """CPU time of all of them until now.

        Raises:
            ProcessesError: the server has ended.
        """
        used: dict[tuple[int, float], float] = {}
        for process in self._all():
            with suppress(psutil.Error):  # ended since it was listed
                times = process.cpu_times()
                used[process.pid, process.create_time()] = times.user + times.system
        if not used:
            raise ProcessesError(f"the server's process {self.root.pid} has ended")
        return Usage(used)

    def memory_bytes(self) -> int:
        """Proportional set size of all of them.

        Raises:
            ProcessesError: they have ended, or belong to somebody else.
        """
        try:
            return sum(process.memory_full_info().pss for process in self._all())
        except psutil.AccessDenied as exc:
            raise ProcessesError(
                f"memory of the server's process {exc.pid} may not be read by this user: run loadtest as the user who "
                "runs the server"
            ) from exc
        except (psutil.Error, AttributeError) as exc:  # ended while it was read; PSS is known on Linux only
            raise ProcessesError(f"memory of the server's process {self.root.pid} cannot be read: {exc}") from exc

    def _all(self) -> list[psutil.Process]:
        try:
            if not self.root.is_running() or self.root.status() == psutil.STATUS_ZOMBIE:
                raise ProcessesError(f"the server's process {self.root.pid} has ended")
            return [self.root, *self.root.children(recursive=True)]
        except psutil.Error as exc:
            raise ProcessesError(f"the server's process {self.root.pid} has ended") from exc


def find(url: str, pid: int | None = None) -> ServerProcesses:
    """The processes of the server that listens at a URL, or of the one that was named.

    Args:
        url: of the server.
        pid: its process, where the user says so.

    Raises:
        UsageError: there is no process ``pid``, or it is loadtest's own or one above that.
        ProcessesError: the server is not on this machine, or what listens cannot be seen or is a proxy.
    """
    if pid is not None:
        return _named(pid)
    host = urlsplit(url).hostname or ""
    if not machine.is_here(host):
        raise ProcessesError(f"the server's processes are on another machine, {host}, and cannot be read from here")
    try:
        root = _listener(host, _port(url))
        name = root.name()
    except psutil.Error as exc:
        raise ProcessesError(f"the server of {url} has just ended: {exc}") from exc
    if name in FORWARDERS_HERE + FORWARDERS_ELSEWHERE:
        raise ProcessesError(
            f"{host}:{_port(url)} is forwarded by {name}, so the server's processes cannot be seen: "
            "name the server's own with --server-pid"
        )
    return ServerProcesses(root)


def _named(pid: int) -> ServerProcesses:
    try:
        root = psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError) as exc:
        raise UsageError(f"--server-pid {pid}: there is no such process; expected that of the server") from exc
    if root.pid in {os.getpid(), *(parent.pid for parent in _parents(psutil.Process()))}:
        raise UsageError(f"--server-pid {pid}: that is loadtest itself or started it; expected that of the server")
    return ServerProcesses(root)


def forwarder_elsewhere(url: str) -> str:
    """Name of the process on this machine that forwards a URL to who knows where; "" if none is seen to."""
    try:
        name = _listener(urlsplit(url).hostname or "", _port(url)).name()
    except (ProcessesError, psutil.Error):
        return ""
    return name if name in FORWARDERS_ELSEWHERE else ""


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS.get(parts.scheme, 80)


def _listener(host: str, port: int) -> psutil.Process:
    """The process that listens on a port of this machine; of several, the one that the others descend from."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError) as exc:
        raise ProcessesError(
            f"who listens on port {port} may not be seen by this user ({exc}): use --server-pid"
        ) from exc
    listening = [one for one in connections if one.status == psutil.CONN_LISTEN and one.laddr.port == port]
    # Another server may have the same port of another address.
    addresses = machine.addresses_of(host)
    exact = [one for one in listening if one.laddr.ip.removeprefix("::ffff:") in addresses]
    pids = {one.pid for one in exact or listening}
    if not pids:
        raise ProcessesError(f"nothing on this machine listens on port {port}")
    if pids == {None}:
        raise ProcessesError(
            f"the process that listens on port {port} belongs to another user or container: "
            "name the server's process with --server-pid, or run loadtest as the user who runs the server"
        )
    return _eldest({pid for pid in pids if pid is not None}, port)


def _eldest(pids: set[int], port: int) -> psutil.Process:
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    eldest = [one for one in found if not {parent.pid for parent in _parents(one)} & pids]
    if len(eldest) != 1:
        raise ProcessesError(
            f"{len(eldest)} processes listen on port {port} ({', '.join(str(one.pid) for one in eldest)}): "
            "name the server's with --server-pid"
        )
    if eldest[0].pid == os.getpid():
        raise ProcessesError(f"port {port} is served by this very process, whose own work cannot be told apart")
    return eldest[0]


def _parents(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.parents())
    except psutil.Error:
        return []
