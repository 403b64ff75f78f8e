"""Whom the real Triton's metrics make suspicious is asked, and only who does not answer counts as hanging."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bert_triton_client import Client
from server import TritonServer, hangs
from server.hangs import HangWatch, Stage
from server.watchdog import Watch
from tests.e2e import triton
from tests.e2e.backend_models import write_backends, write_tensor_model, write_text_model

SUSPICIOUS_S = 0.2
# Of a text model that has answered once it is true for ever, so it is suspected without a reason.
SUSPECT_EVERYBODY = Stage(waiting="bert_text_cache_entries", failed="", progress=("nothing",), fault="is suspected")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hangs")
    write_tensor_model(folder / "repository", "sentiment_tensors")
    write_text_model(folder / "repository", "sentiment", "sentiment_tensors", cache_size="100")
    return folder / "repository"


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backends(tmp_path_factory.mktemp("hangs_backends"))


@pytest.fixture
def watched(
    server_factory: Callable[..., TritonServer], repository: Path, backends: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TritonServer, HangWatch]]:
    """A server whose text model has answered, and who suspects it."""
    monkeypatch.setattr(hangs, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(hangs, "STAGES", (SUSPECT_EVERYBODY,))
    server = server_factory(repository, backends=backends)
    with Client(server.grpc_url, model="sentiment") as client:
        client.classify("w1 w2")
    watch = HangWatch(server, SUSPICIOUS_S)
    yield server, watch
    watch.close()


def answered(server: TritonServer) -> int:
    with Client(server.grpc_url) as client:
        return client.statistics("sentiment")[0].requests


def test_a_suspect_that_answers_does_not_hang(watched: tuple[TritonServer, HangWatch]) -> None:
    server, watch = watched
    before = answered(server)
    triton.eventually(lambda: answered(server) >= before + 3, 60, "asking the suspect")
    assert watch.fault is None


def test_a_suspect_that_does_not_answer_hangs(watched: tuple[TritonServer, HangWatch]) -> None:
    server, watch = watched
    processes = map(psutil.Process, triton.backend_processes(server.pid))
    tensors = next(process for process in processes if "sentiment_tensors_0" in " ".join(process.cmdline()))
    tensors.suspend()  # a known text is answered all the same
    try:
        triton.eventually(lambda: watch.fault is not None, 60, "the verdict")
    finally:
        tensors.resume()
    assert watch.fault == "version 1 of text model sentiment is suspected"


def test_a_triton_that_does_not_answer_hangs_until_it_does(watched: tuple[TritonServer, HangWatch]) -> None:
    server, watch = watched
    process = psutil.Process(server.pid)
    process.suspend()
    try:
        triton.eventually(lambda: watch.fault is not None, 60, "the verdict")
        assert str(watch.fault).startswith("tritonserver has not answered for ")
    finally:
        process.resume()
    triton.eventually(lambda: watch.fault is None, 60, "its answers")


def test_nobody_watches_without_a_timeout_or_metrics_or_once_it_is_closed(
    server_factory: Callable[..., TritonServer], repository: Path, backends: Path
) -> None:
    def watching() -> bool:
        return any(thread.name == "hang-watch" for thread in threading.enumerate())

    triton.eventually(lambda: not watching(), 60, "the end of earlier ones")
    server = server_factory(repository, backends=backends)
    without = server_factory(repository, backends=backends, extra_args=("--allow-metrics=false",))
    for watch in (Watch(server), Watch(without, hang_timeout_s=5.0)):
        assert watch.fault() is None
        assert not watching()
        watch.close()
    watch = Watch(server, hang_timeout_s=5.0)
    assert watch.fault() is None
    assert watching()
    watch.close()
    triton.eventually(lambda: not watching(), 60, "the end")
