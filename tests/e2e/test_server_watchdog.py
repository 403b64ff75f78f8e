"""What lives and does nothing is replaced by ``python -m server``; what has much to do is not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bert_triton_client import BertTritonError, Client
from tests.e2e import triton
from tests.e2e.backend_models import write_backends, write_tensor_model, write_text_model
from tests.e2e.server_command import FREE_PORTS, RECOVERY_TIMEOUT_S, Command

HANG_TIMEOUT_S = 3
SLOW_TEXT = "wait0.5s" + 12 * " w1"  # as many tokens as an execution takes
QUEUED_TEXTS = 16  # so they wait for more than twice the time after which something counts as hanging


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """A server of two text models, one of them slow."""
    backends, repository = tmp_path / "backends", tmp_path / "repository"
    backends.mkdir()
    write_backends(backends)
    for name, backend in (("sentiment", "onnxruntime"), ("slow", "slow")):
        write_tensor_model(repository, f"{name}_tensors", backend=backend)
        write_text_model(repository, name, f"{name}_tensors", max_tokens="16", cache_size="0")
    flags = (f"--model-repository={repository}", f"--backends={backends}", "--no-verify")
    command = Command(tmp_path, *flags, f"--hang-timeout-s={HANG_TIMEOUT_S}", *FREE_PORTS)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()  # what it started ends with it
        command.process.wait()


def texts_process(command: Command) -> psutil.Process:
    """The process of the text model ``sentiment``."""
    processes = map(psutil.Process, triton.backend_processes(command.triton_pid()))
    return next(process for process in processes if "sentiment_0_0" in " ".join(process.cmdline()))


def replaced(command: Command, url: str, hung: psutil.Process) -> str:
    """Asks until somebody answers whose process is another one; what the server said meanwhile."""
    starts, said = len(command.ready_lines()), len(command.ours())
    hung.suspend()
    numbers = itertools.count()
    with Client(url, model="sentiment", max_retries=0, request_timeout_s=2.0) as client:

        def answers_again() -> bool:
            with suppress(BertTritonError):
                client.classify(f"w{next(numbers) % 50}")
                return len(command.ready_lines()) > starts
            return False

        triton.eventually(answers_again, RECOVERY_TIMEOUT_S, "the restart")
    assert not hung.is_running()
    return command.ours()[said]


def test_what_hangs_is_replaced_and_what_is_busy_is_not(command: Command) -> None:
    url = command.wait_until_ready()
    began = time.monotonic()
    with Client(url, model="slow", max_retries=0) as client, ThreadPoolExecutor(QUEUED_TEXTS) as pool:
        list(pool.map(client.classify, [f"{SLOW_TEXT} w{number}" for number in range(QUEUED_TEXTS)]))
    assert time.monotonic() - began > 2 * HANG_TIMEOUT_S
    assert command.ours() == []

    said = replaced(command, url, texts_process(command))
    assert said.startswith("server: version 1 of text model sentiment has answered nothing for ")
    assert said.endswith(" s though it was asked; restarting the server")

    said = replaced(command, url, psutil.Process(command.triton_pid()))
    assert said.startswith("server: tritonserver has not answered for ")
    assert command.end() == 0
    assert command.leftovers() == []
