"""deploy/triton-gpu.sh, what the GPU image runs, on pip's Triton: the script is the same, only the GPU is missing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bert_triton_client import AccessDeniedError, BertTritonError, Client
from server import backend_directory, installation
from server.limits import OPEN_FILES, STACK_BYTES
from tests.e2e import triton

SCRIPT = triton.REPOSITORY_ROOT / "deploy/triton-gpu.sh"
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 30.0


@dataclass
class Script:
    """The running script, with a `tritonserver` on its path that starts pip's."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self, repository: Path, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("wb")
        environment = {**os.environ, "TRITON_MODEL_REPOSITORY": str(repository), **environment}
        environment["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        with log:
            self.process = subprocess.Popen(
                [SCRIPT], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self.process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", model="sentiment", max_retries=0)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-2000:]
        try:
            with self.client() as client:
                return client.classify("A wonderful film.").label == "positive"
        except BertTritonError:
            return False

    def processes(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    found = installation.find()
    backends = backend_directory.prepare(found, tmp_path / "backends")
    made = Script(tmp_path, triton.free_port())
    environment = installation.environment(found, {"PATH": os.environ["PATH"]})
    flags = [f"--backend-directory={backends}", f"--http-port={made.port}", "--http-address=127.0.0.1"]
    flags += ["--allow-grpc=false", "--allow-metrics=false"]
    lines = ["#!/bin/sh", *(f"export {name}='{value}'" for name, value in environment.items())]
    # Without the configs for a GPU, which this machine has not, and the flag of a service that is off.
    kept = 'case $flag in --model-config-name=gpu | --grpc-*) ;; *) set -- "$@" "$flag" ;; esac'
    lines += [f"for flag; do shift; {kept}; done"]
    lines += [f'exec {found.binary} {" ".join(flags)} "$@"']
    (tmp_path / "tritonserver").write_text("\n".join(lines) + "\n")
    (tmp_path / "tritonserver").chmod(0o755)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            os.killpg(made.process.pid, signal.SIGKILL)
            made.process.wait()


def test_it_ends_when_a_backend_process_died_and_when_it_is_asked_to(script: Script, demo_repository: Path) -> None:
    started = script.start(demo_repository)
    triton.eventually(script.answers, START_TIMEOUT_S, "an answer")
    with script.client() as client, pytest.raises(AccessDeniedError):
        client.models()  # the list of models is behind the key
    (server,) = [process for process in script.processes() if process.name() == "tritonserver"]
    for kind, wanted in ((psutil.RLIMIT_STACK, STACK_BYTES), (psutil.RLIMIT_NOFILE, OPEN_FILES)):
        soft, hard = server.rlimit(kind)
        assert soft == (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    (victim,) = [process for process in script.processes() if "sentiment_int8_0_0" in process.cmdline()]
    victim.kill()
    assert started.wait(END_TIMEOUT_S) == 1
    assert "a backend process of Triton died" in script.log
    started = script.start(demo_repository)
    triton.eventually(script.answers, START_TIMEOUT_S, "an answer")
    left = script.processes()
    started.terminate()
    assert started.wait(END_TIMEOUT_S) == 0
    assert not psutil.wait_procs(left, END_TIMEOUT_S)[1]


def test_it_refuses_a_changed_file_by_its_name(script: Script, demo_repository: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(demo_repository / "sentiment", tmp_path / "models/sentiment").parent
    with (copy / "sentiment/1/labels.json").open("a") as labels:
        labels.write(" ")
    assert script.start(copy).wait(END_TIMEOUT_S) == 1
    assert "sentiment/1/labels.json: FAILED" in script.log
    (copy / "sentiment/1/manifest.json").unlink()
    assert script.start(copy).wait(END_TIMEOUT_S) == 1
    assert "manifest.json is missing" in script.log
