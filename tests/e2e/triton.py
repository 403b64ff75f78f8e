"""The real Triton for tests: trivial model repositories, answers over plain HTTP, and what a server leaves behind."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
DEMO_REPOSITORY = REPOSITORY_ROOT / "model_repository"
DEV_SHM = Path("/dev/shm")  # noqa: S108

ECHO_CONFIG = """
backend: "{backend}"
max_batch_size: 8
input [{{ name: "TEXT" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "LABEL" data_type: TYPE_STRING dims: [1] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""

# Answers with the text itself. "busy FILE SECONDS" makes the file and takes that long, or until the file is removed.
ECHO_BACKEND = """
import os
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            for text in texts.ravel():
                if text.startswith(b"busy "):
                    _, path, seconds = text.decode().split()
                    open(path, "x").close()
                    until = time.monotonic() + float(seconds)
                    while time.monotonic() < until and os.path.exists(path):
                        time.sleep(0.01)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LABEL", texts)]))
        return responses
"""


def write_backend(backends: Path, name: str = "echo", source: str = ECHO_BACKEND) -> Path:
    """Writes a Python-based backend; returns the folder of backends."""
    folder = backends / name
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(source)
    return backends


def write_model(repository: Path, name: str, *, backend: str = "echo", config: str = ECHO_CONFIG) -> Path:
    """Writes a model with one version; returns the repository."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config.format(backend=backend))
    return repository


def infer(http_url: str, text: str = "hello", *, model: str = "echo", timeout_s: float = 60.0) -> str:
    """One text through a model of `ECHO_CONFIG`; raises what urllib raises."""
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    request = urllib.request.Request(
        f"{http_url}/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode(), {"Connection": "close"}
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return str(json.load(response)["outputs"][0]["data"][0])


def load(http_url: str, model: str) -> str:
    """Has a server in explicit mode load a model; returns the server's objection, or an empty string."""
    request = urllib.request.Request(f"{http_url}/v2/repository/models/{model}/load", b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60):
            return ""
    except urllib.error.HTTPError as exc:
        return str(json.load(exc)["error"])


def answers(http_url: str, *, model: str = "echo") -> bool:
    """Whether the echo model answers at this moment."""
    try:
        return infer(http_url, model=model) == "hello"
    except (urllib.error.URLError, OSError):
        return False


class BusyRequest:
    """A request that the echo model is working on, from a thread."""

    def __init__(self, http_url: str, marker: Path, seconds: float) -> None:
        self.text = f"busy {marker} {seconds}"
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(infer, http_url, self.text, timeout_s=seconds + 60.0)
        self._pool.shutdown(wait=False)
        eventually(marker.exists, 60.0, "the request's arrival at the model")

    def answer(self, timeout_s: float) -> str:
        """What came back; raises what `infer` raises."""
        return self._answer.result(timeout_s)


def free_port() -> int:
    """A port that nobody has: below those that the kernel gives away, or another test would get it in the meantime."""
    first_given_away = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10_000, max(first_given_away, 20_000))
    for port in random.SystemRandom().sample(ports, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def eventually(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Waits until ``condition``; returns the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.05)
    return time.monotonic() - started


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaps does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def backend_processes(triton_pid: int) -> list[int]:
    """The live backend processes of a tritonserver."""
    return [child.pid for child in psutil.Process(triton_pid).children() if alive(child.pid)]


def shared_memory(launcher_pid: int) -> list[str]:
    """The files in /dev/shm of the servers that a process started."""
    return sorted(path.name for path in DEV_SHM.glob(f"bert_triton_{launcher_pid}_*"))
