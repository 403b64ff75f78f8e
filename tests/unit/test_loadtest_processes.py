"""Finding the process behind a port, and what it and its children use, with real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from loadtest.errors import UsageError
from loadtest.server_side import machine, processes
from loadtest.server_side.processes import ProcessesError

# Takes a name, listens, has a child that works for half a second of CPU time, then waits, and says when that is done.
SERVER = """
import ctypes, socket, subprocess, sys, time
if sys.argv[1:]:
    PR_SET_NAME = 15
    assert ctypes.CDLL(None).prctl(PR_SET_NAME, sys.argv[1].encode(), 0, 0, 0) == 0
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
work = "import time\\nwhile time.process_time() < 0.5: pass\\nprint('done', flush=True)\\ntime.sleep(600)"
print(listener.getsockname()[1], flush=True)
sys.stdin.readline()
child = subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE)
child.stdout.readline()
print("worked", flush=True)
try:
    time.sleep(600)
finally:
    child.kill()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts `SERVER`; returns it and its port. It and its children end with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*name: str) -> tuple[subprocess.Popen[str], int]:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        started.append(server)
        assert server.stdout is not None
        return server, int(server.stdout.readline())

    yield run
    for server in started:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        server.wait()
        for pipe in (server.stdin, server.stdout):
            assert pipe is not None
            pipe.close()


def work(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("go\n")
    server.stdin.flush()
    assert server.stdout.readline() == "worked\n"


@pytest.mark.parametrize("by_pid", [False, True])
def test_the_listener_is_found_and_its_childrens_time_counts(
    start: Callable[..., tuple[subprocess.Popen[str], int]], by_pid: bool
) -> None:
    server, port = start()
    found = processes.find(f"grpc://localhost:{port}", server.pid if by_pid else None)
    assert found.root.pid == server.pid
    before, alone_bytes = found.usage(), found.memory_bytes()
    work(server)
    used_s = found.usage().since(before)
    assert 0.4 < used_s < 3  # half a second of the child and the starting of an interpreter
    assert found.usage().since(found.usage()) < 0.5
    assert 2**20 < alone_bytes < found.memory_bytes() < 2**29


def test_an_ended_server_is_an_error(start: Callable[..., tuple[subprocess.Popen[str], int]]) -> None:
    server, port = start()
    found = processes.find(f"http://127.0.0.1:{port}")
    process = psutil.Process(server.pid)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:  # its parent, this process, has not looked yet
        time.sleep(0.01)
    with pytest.raises(ProcessesError, match=f"process {server.pid} has ended"):
        found.usage()
    with pytest.raises(ProcessesError, match=f"process {server.pid}"):
        found.memory_bytes()


@pytest.mark.parametrize("name", ["docker-proxy", "kubectl"])
def test_a_forwarder_is_not_taken_for_the_server(
    start: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    _, port = start(name)
    with pytest.raises(ProcessesError, match=f"forwarded by {name}.*--server-pid"):
        processes.find(f"grpc://127.0.0.1:{port}")
    hardware = machine.hardware_of(f"grpc://127.0.0.1:{port}")
    assert hardware == (
        machine.describe() if name == "docker-proxy" else "unknown: 127.0.0.1 is reached through kubectl"
    )


def test_what_cannot_be_found_says_why() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ProcessesError, match=f"nothing on this machine listens on port {port}"):
        processes.find(f"grpc://localhost:{port}")
    with pytest.raises(ProcessesError, match=r"another machine, 192\.0\.2\.1"):
        processes.find("grpc://192.0.2.1:8001")
    with socket.create_server(("127.0.0.1", 0)) as own, pytest.raises(ProcessesError, match="this very process"):
        processes.find(f"grpc://127.0.0.1:{own.getsockname()[1]}")


@pytest.mark.parametrize("pid", [-1, 2**22 + 1, 2**70])
def test_a_pid_that_is_none_is_a_usage_error(pid: int) -> None:
    with pytest.raises(UsageError, match=f"--server-pid {pid}: there is no such process"):
        processes.find("grpc://localhost:8001", pid)


def test_loadtest_itself_is_not_the_server() -> None:
    for pid in (os.getpid(), os.getppid()):
        with pytest.raises(UsageError, match="loadtest itself"):
            processes.find("grpc://localhost:8001", pid)
