"""``python -m server`` as a person and a supervisor use it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bert_triton_client import BertTritonError, Client
from export.repository import ModelRepository
from server import backend_directory, installation
from server.watchdog import SAME_REQUEST_S
from tests.e2e import triton
from tests.e2e.backend_models import bag_graph, write_tokenizer
from tests.e2e.server_command import END_TIMEOUT_S, FREE_PORTS, READY_TIMEOUT_S, RECOVERY_TIMEOUT_S, Command
from tests.tiny_repository import publish

SECOND_SIGNAL_S = 15.0  # for killing everything; a third signal meanwhile would end the launcher without that


@pytest.fixture
def serve(tmp_path: Path, echo_repository: Path, echo_backends: Path) -> Iterator[Callable[..., Command]]:
    """``serve(*arguments, **environment)`` runs ``python -m server`` on the echo model."""
    commands: list[Command] = []

    def start(*arguments: str | Path, **environment: str) -> Command:
        # The echo model was not exported: it has no manifest.
        defaults = (f"--model-repository={echo_repository}", f"--backends={echo_backends}", "--no-verify", *FREE_PORTS)
        commands.append(Command(tmp_path, *defaults, *arguments, **environment))
        return commands[-1]

    try:
        yield start
    finally:
        for command in commands:
            if command.process.poll() is None:
                command.process.kill()  # what it started ends with it: see the test of that
            command.process.wait()


def test_one_ready_line_then_a_clean_stop(serve: Callable[..., Command], echo_repository: Path, tmp_path: Path) -> None:
    triton.write_backend(tmp_path / "backends")
    triton.write_backend(tmp_path / "backends", "bert_text")
    triton.write_model(echo_repository, "sentiment", backend="bert_text")
    prepared = backend_directory.prepare(installation.find(), tmp_path / "prepared", tmp_path / "backends")
    files = set(prepared.rglob("*"))
    command = serve(
        f"--backends={tmp_path / 'backends'}", f"--backend-directory={prepared}", BERT_TRITON_EXIT_TIMEOUT_S="5"
    )
    url = command.wait_until_ready()
    assert triton.answers(url)
    (line,) = command.ready_lines()
    assert re.fullmatch(
        r"ready: http http://\S+:\d+, grpc grpc://(?P<grpc>\S+:\d+), metrics http://\S+:\d+/metrics; "
        r"models echo, sentiment; "
        r'next: bert-triton classify "I love this movie" --model sentiment --url grpc://(?P=grpc)',
        line,
    )
    assert "successfully loaded 'echo'" in (tmp_path / "stderr").read_text(), "Triton's log, as it is"
    assert command.end() == 0
    assert command.ours() == [
        "server: stopping: requests in flight get up to 5 s (--exit-timeout-s); a second signal kills"
    ]
    assert command.leftovers() == []
    assert files <= set(prepared.rglob("*")), "it belongs to no server"


def test_what_dies_is_restarted_on_the_same_ports(serve: Callable[..., Command]) -> None:
    command = serve()
    url = command.wait_until_ready()
    (backend,) = triton.backend_processes(command.triton_pid())
    os.kill(backend, signal.SIGKILL)
    triton.eventually(lambda: len(command.ready_lines()) == 2 and triton.answers(url), RECOVERY_TIMEOUT_S, "recovery")
    assert command.ours()[0] == f"server: backend process {backend} of Triton died; restarting the server"

    os.kill(command.triton_pid(), signal.SIGKILL)
    triton.eventually(lambda: len(command.ready_lines()) == 3 and triton.answers(url), RECOVERY_TIMEOUT_S, "recovery")
    assert len(set(command.ready_lines())) == 1, "the same ports"
    assert len(triton.shared_memory(command.process.pid)) == 2, "one region and the lock: the dead ones' are gone"
    assert command.end(signal.SIGINT) == 0
    assert command.leftovers() == []


def test_a_process_that_hangs_is_replaced(serve: Callable[..., Command], tmp_path: Path) -> None:
    """It is not dead, and only every second request of its model meets it."""
    publish(
        ModelRepository(tmp_path / "repository"),
        "sentiment",
        precisions=("fp32",),
        fill=lambda folder: bag_graph(folder / "model.onnx", version=1),
        fill_text=lambda folder: write_tokenizer(folder / "tokenizer.json"),
    )
    command = serve(f"--model-repository={tmp_path / 'repository'}", f"--backends={backend_directory.BACKENDS}")
    url = command.wait_until_ready()
    processes = map(psutil.Process, triton.backend_processes(command.triton_pid()))
    hung, *_ = (process for process in processes if any("sentiment_fp32" in part for part in process.cmdline()))
    hung.suspend()
    new_texts = itertools.count()
    with Client(url, model="sentiment", max_retries=0) as client:

        def is_replaced() -> bool:
            with suppress(BertTritonError):
                client.classify(" ".join(f"w{digit}" for digit in str(next(new_texts))))
            return len(command.ready_lines()) == 2

        triton.eventually(is_replaced, RECOVERY_TIMEOUT_S, "the restart")
    said = [line for line in command.ours() if "restarting" in line]
    assert len(said) == 1
    assert re.search(r"backend process sentiment_fp32_\d_\d of Triton does not answer; restarting the server", said[0])
    assert not hung.is_running()


def test_what_dies_ends_the_server_where_that_is_asked(serve: Callable[..., Command]) -> None:
    command = serve("--on-backend-death=exit")
    command.wait_until_ready()
    os.kill(triton.backend_processes(command.triton_pid())[0], signal.SIGKILL)
    assert command.process.wait(END_TIMEOUT_S) == 1
    assert "ending, as --on-backend-death exit says" in command.ours()[-1]
    assert command.leftovers() == []


def test_a_server_that_cannot_be_kept_up_is_given_up(serve: Callable[..., Command], tmp_path: Path) -> None:
    backends = triton.write_backend(tmp_path / "backends")
    command = serve("--max-restarts=1", f"--backends={backends}")
    command.wait_until_ready()
    (backends / "echo" / "model.py").write_text("import no_such_module\n")
    os.kill(command.triton_pid(), signal.SIGKILL)
    assert command.process.wait(RECOVERY_TIMEOUT_S) == 1
    assert "tritonserver ended (killed by SIGKILL); restarting the server" in command.ours()[0]
    assert re.search(r"the restart failed: .*echo.*; ending, since --max-restarts allows 1", command.ours()[1])
    assert command.leftovers() == []


def test_a_restart_serves_what_was_served(serve: Callable[..., Command], echo_repository: Path) -> None:
    command = serve("--max-restarts=1")
    url = command.wait_until_ready()
    (echo_repository / "echo" / "config.pbtxt").write_text("cut off {")
    triton.write_model(echo_repository, "later")
    os.kill(command.triton_pid(), signal.SIGKILL)
    triton.eventually(lambda: len(command.ready_lines()) == 2 and triton.answers(url), RECOVERY_TIMEOUT_S, "recovery")
    assert len(set(command.ready_lines())) == 1


def test_a_killed_launcher_leaves_nothing(serve: Callable[..., Command], tmp_path: Path) -> None:
    command = serve(TMPDIR=str(tmp_path))
    command.wait_until_ready()
    assert list(tmp_path.glob("bert-triton-*"))
    assert len(command.leftovers()) >= 3, "tritonserver, a backend process, files"
    assert command.end(signal.SIGKILL) == -signal.SIGKILL
    triton.eventually(lambda: command.leftovers() == [], 60.0, "the clean-up")
    triton.eventually(lambda: not list(tmp_path.glob("bert-triton-*")), 60.0, "the removal of its temporary folder")


def test_sigterm_finishes_what_is_in_flight_and_a_second_one_kills(
    serve: Callable[..., Command], tmp_path: Path
) -> None:
    command = serve("--exit-timeout-s=30")
    url = command.wait_until_ready()
    finished = triton.BusyRequest(url, tmp_path / "busy", 1.0)
    command.process.send_signal(signal.SIGTERM)
    assert finished.answer(60.0) == finished.text
    assert command.process.wait(END_TIMEOUT_S) == 0

    command = serve("--exit-timeout-s=120")
    cut_off = triton.BusyRequest(command.wait_until_ready(), tmp_path / "busier", 300.0)
    command.process.send_signal(signal.SIGTERM)
    command.process.send_signal(signal.SIGINT)  # at the same moment: one wish, as after Ctrl-C in a shell
    triton.eventually(lambda: "stopping" in "".join(command.ours()), END_TIMEOUT_S, "the first signal's effect")
    time.sleep(SAME_REQUEST_S + 0.5)  # a second signal is one only after that
    assert command.process.poll() is None

    while command.process.poll() is None:  # again, where this machine was slower than that
        command.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(SECOND_SIGNAL_S)
    assert command.process.returncode == 1
    with pytest.raises(OSError):
        cut_off.answer(60.0)
    assert "killed by a second signal" in command.ours()[-1]
    assert command.leftovers() == []


def test_sigterm_while_starting_ends_at_once(
    serve: Callable[..., Command], echo_repository: Path, tmp_path: Path
) -> None:
    loading = tmp_path / "loading"
    slow = f"""
import pathlib, time

class TritonPythonModel:
    def initialize(self, args):
        pathlib.Path({str(loading)!r}).touch()
        time.sleep(300)

    def execute(self, requests):
        pass
"""
    command = serve(f"--backends={triton.write_backend(tmp_path / 'backends', source=slow)}")
    triton.eventually(loading.exists, READY_TIMEOUT_S, "the start")
    assert command.end() == 0
    assert command.ready_lines() == []
    assert command.leftovers() == []


def test_a_taken_port_is_one_line(serve: Callable[..., Command]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = serve("--grpc-port", str(port))
        assert command.process.wait(READY_TIMEOUT_S) == 1
    (line,) = command.ours()
    assert line == (
        f"server: error: cannot listen on 127.0.0.1 port {port} for grpc: Address already in use; "
        "stop what uses it, or choose another with --grpc-port (0 = a free one)"
    )


def test_a_broken_model_is_one_line(serve: Callable[..., Command], echo_repository: Path) -> None:
    (echo_repository / "echo" / "config.pbtxt").write_text(triton.ECHO_CONFIG.format(backend="no_such_backend"))
    command = serve()
    assert command.process.wait(READY_TIMEOUT_S) == 1
    (line,) = command.ours()
    assert re.match(r"server: error: Triton refused a model: echo.*no_such_backend", line)
    assert command.leftovers() == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model-repository=/no/such/folder"], 1, r"server: error: model repository /no/such/folder does not exist"),
        (["--http-port=eighty"], 2, r"error: --http-port is 'eighty', expected a port"),
        (["--model-config-name=gqu"], 2, r"error: --model-config-name gqu: no model has configs/gqu\.pbtxt"),
        (["--", "--http-port=1"], 2, r"error: --http-port cannot be passed through"),
        (["--", "--no-such-flag=1"], 2, r"error: tritonserver does not take .*--no-such-flag"),
    ],
)
def test_bad_usage_says_so_without_a_traceback(
    serve: Callable[..., Command], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    command = serve(*arguments)
    assert command.process.wait(READY_TIMEOUT_S) == code
    stderr = (tmp_path / "stderr").read_text()
    assert re.search(said, stderr)
    assert "Traceback" not in stderr
