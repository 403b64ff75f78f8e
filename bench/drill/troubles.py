"""What can go wrong: processes that die, memory that is full, clients that are slow, silent, idle or outsize."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.drill.served import Served
from bert_triton_client import AsyncClient
from demo.server_process import ServerProcess
from server.hangs import HANG_TIMEOUT_S
from server.shared_memory import DEV_SHM

IDLE_CONNECTIONS = 1000
HALF_OPEN_CONNECTIONS = 200
SLOW_S = 5.0
LARGE_BYTES = 64 << 20
GROWING_BYTES = 4 << 20  # more than the region of a model in /dev/shm holds at first
# A small /dev/shm that only the server sees, so that filling it harms nobody else.
OWN_SHARED_MEMORY = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount -t tmpfs -o size=256m tmpfs /dev/shm && exec "$0" "$@"',
)
HEAD = (
    b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong.

    Attributes:
        name: in the table.
        cause: makes the trouble for a running server, in a thread of its own, until it returns what it met, in words.
        kills: whether the server is gone for a while by that: requests without retries may fail then.
        back_within_s: how long it may be gone.
    """

    name: str
    cause: Callable[[ServerProcess, Served], str]
    kills: bool = False
    back_within_s: float = 30.0


def tritonserver(process: ServerProcess) -> psutil.Process:
    """Triton itself, below ``python -m server``."""
    return next(child for child in psutil.Process(process.process.pid).children() if "tritonserver" in child.name())


def wait_for_restart(process: ServerProcess, before: int, timeout_s: float) -> None:
    """Returns when another tritonserver runs than the one with process id ``before``.

    Raises:
        TimeoutError: none does after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(StopIteration, psutil.NoSuchProcess):
            if tritonserver(process).pid != before:
                return
        time.sleep(0.1)
    raise TimeoutError(f"python -m server did not start another tritonserver within {timeout_s:.0f} s")


def _backend_process(process: ServerProcess, model: str) -> psutil.Process:
    """The process of a model: its name is in the arguments of Triton's Python backend."""
    children = tritonserver(process).children()
    return next(
        child
        for child in children
        if any(part.endswith(f"/{model}") or part == model or part.startswith(f"{model}_0") for part in child.cmdline())
    )


def _kill_text_model(process: ServerProcess, served: Served) -> str:
    return _kill(_backend_process(process, served.model))


def _kill_tensor_model(process: ServerProcess, served: Served) -> str:
    return _kill(_backend_process(process, served.tensor_model))


def _stop_tensor_model(process: ServerProcess, served: Served) -> str:
    _backend_process(process, served.tensor_model).suspend()
    return "SIGSTOP"


def _stop_text_model(process: ServerProcess, served: Served) -> str:
    _backend_process(process, served.model).suspend()
    return f"SIGSTOP; --hang-timeout-s {HANG_TIMEOUT_S:g}"


def _kill_server(process: ServerProcess, served: Served) -> str:  # noqa: ARG001
    return _kill(tritonserver(process))


def _kill(process: psutil.Process) -> str:
    process.send_signal(signal.SIGKILL)
    return "SIGKILL"


def _address(process: ServerProcess, service: str) -> tuple[str, int]:
    host, port = process.url(service).split("://")[1].split("/")[0].rsplit(":", 1)
    return host, int(port)


@contextlib.contextmanager
def connections(process: ServerProcess, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """Connections to the HTTP port, each with some bytes sent."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(_address(process, "http"), timeout=10))
            connection.sendall(first)
            opened.append(connection)
        yield opened


def _unfinished(served: Served) -> bytes:
    """A request that says it has 1,000 bytes, and one of them."""
    return HEAD % (served.model.encode(), 1000) + b"{"


def _idle_connections(process: ServerProcess, served: Served) -> str:  # noqa: ARG001
    with connections(process, IDLE_CONNECTIONS, b"") as opened:
        time.sleep(SLOW_S)
        return f"{len(opened)} connections without a byte for {SLOW_S:.0f} s"


def _half_open(process: ServerProcess, served: Served) -> str:
    with connections(process, HALF_OPEN_CONNECTIONS, _unfinished(served)) as opened:
        time.sleep(SLOW_S)
        return f"{len(opened)} requests that never end, for {SLOW_S:.0f} s"


def _slow_client(process: ServerProcess, served: Served) -> str:
    with connections(process, 20, _unfinished(served)) as opened:
        end = time.monotonic() + SLOW_S
        sent = 0
        while time.monotonic() < end:
            for connection in opened:
                connection.sendall(b" ")
            sent += 1
            time.sleep(0.25)
    return f"20 requests, a byte every 0.25 s, {sent} bytes of each, then gone"


def _large_http(process: ServerProcess, served: Served) -> str:
    text = "good " * (LARGE_BYTES // 5)
    body = b'{"inputs":[{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["' + text.encode() + b'"]}]}'
    head = HEAD % (served.model.encode(), len(body))
    began = time.monotonic()
    with socket.create_connection(_address(process, "http"), timeout=30) as connection:
        try:
            connection.sendall(head + body)
            answer = connection.recv(400)
        except OSError as exc:
            return f"64 MB over HTTP: {exc} after {time.monotonic() - began:.1f} s"
    head_of_answer, _, rest = answer.decode(errors="replace").partition("\r\n\r\n")
    status = head_of_answer.partition("\r\n")[0]
    return f"64 MB over HTTP: {status} {rest[:100]!r} after {time.monotonic() - began:.1f} s"


def _large_grpc(process: ServerProcess, served: Served) -> str:
    return f"64 MB over gRPC: {_asked(process, served, LARGE_BYTES)}"


def full_shared_memory(process: ServerProcess, served: Served) -> str:
    """For a server started with `OWN_SHARED_MEMORY`."""
    folder = Path("/proc", str(process.process.pid), "root", DEV_SHM.relative_to("/"))
    filler = folder / "filler"
    with filler.open("wb") as file:
        room = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    try:
        full = _asked(process, served, GROWING_BYTES)
        time.sleep(SLOW_S)
    finally:
        filler.unlink()
    return f"full for {SLOW_S:.0f} s; 4 MB text meanwhile: {full}; and then: {_asked(process, served, GROWING_BYTES)}"


def _asked(process: ServerProcess, served: Served, size_bytes: int) -> str:
    """What comes of a text of a size."""

    async def ask() -> str:
        async with AsyncClient(
            process.url("grpc"), model=served.model, max_retries=0, max_request_bytes=2 * size_bytes
        ) as client:
            try:
                await client.classify("good " * (size_bytes // 5))
            except Exception as exc:  # noqa: BLE001 -- whatever it is, it is the finding
                return f"{type(exc).__name__}: {str(exc)[:120]}"
        return "answered"

    began = time.monotonic()
    return f"{asyncio.run(ask())} after {time.monotonic() - began:.1f} s"


TROUBLES = (
    Trouble("full /dev/shm", full_shared_memory),  # before larger messages have made the regions grow
    Trouble("1,000 idle connections", _idle_connections),
    Trouble("half-open requests", _half_open),
    Trouble("slow clients", _slow_client),
    Trouble("a 64 MB message, HTTP", _large_http),
    Trouble("a 64 MB message, gRPC", _large_grpc),
    Trouble("SIGKILL of the text model's process", _kill_text_model, kills=True),
    Trouble("SIGKILL of the tensor model's process", _kill_tensor_model, kills=True),
    Trouble("SIGSTOP of the tensor model's process", _stop_tensor_model, kills=True),
    Trouble("SIGSTOP of the text model's process", _stop_text_model, kills=True, back_within_s=HANG_TIMEOUT_S + 20),
    Trouble("SIGKILL of tritonserver", _kill_server, kills=True),
)
