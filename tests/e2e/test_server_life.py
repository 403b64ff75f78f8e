"""One tritonserver process through the library: started, answering, stopped, leaving nothing."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import TritonServer
from server.endpoints import Endpoints
from server.errors import ModelError, OptionError
from server.watchdog import WATCH_INTERVAL_S, ZOMBIE_SIGHTINGS, Watch
from tests.e2e import triton

Factory = Callable[..., TritonServer]


def test_starts_answers_stops_and_leaves_nothing(
    server_factory: Factory,
    echo_repository: Path,
    echo_backends: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    memory = triton.shared_memory(os.getpid())
    server = server_factory(echo_repository, backends=echo_backends, exit_timeout_s=10)
    pid, backends = server.pid, triton.backend_processes(server.pid)
    assert triton.infer(server.http_url, "hello") == "hello"
    assert server.probe.version().startswith("2.")
    assert "nv_inference_request_success" in urllib.request.urlopen(server.metrics_url).read().decode()
    assert len(triton.shared_memory(os.getpid())) == len(memory) + 2, "a region and the lock"
    assert len(backends) == 1
    assert len(list(temporary.iterdir())) == 1

    assert server.stop(), "nothing was in flight: it ends by itself"
    assert not triton.answers(server.http_url)
    assert not any(map(triton.alive, [pid, *backends]))
    assert triton.shared_memory(os.getpid()) == memory
    assert list(temporary.iterdir()) == []
    server.stop()  # a second time is harmless


def test_servers_run_side_by_side_and_end_apart(
    server_factory: Factory, echo_repository: Path, echo_backends: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:  # started at the same moment
        first, second = pool.map(lambda _: server_factory(echo_repository, backends=echo_backends), range(2))
    assert not set(first.endpoints.ports().values()) & set(second.endpoints.ports().values())
    regions = len(triton.shared_memory(os.getpid()))
    first.kill()
    assert len(triton.shared_memory(os.getpid())) == regions - 2
    assert triton.answers(second.http_url)


def test_a_stop_finishes_what_is_in_flight(
    server_factory: Factory, echo_repository: Path, echo_backends: Path, tmp_path: Path
) -> None:
    server = server_factory(echo_repository, backends=echo_backends, exit_timeout_s=10)
    request = triton.BusyRequest(server.http_url, tmp_path / "busy", 1.5)
    server.stop()
    assert request.answer(30.0) == request.text


def test_a_stop_is_bounded_when_a_request_does_not_end(
    server_factory: Factory, echo_repository: Path, echo_backends: Path, tmp_path: Path
) -> None:
    memory = triton.shared_memory(os.getpid())
    server = server_factory(echo_repository, backends=echo_backends, exit_timeout_s=1)
    request = triton.BusyRequest(server.http_url, tmp_path / "busy", 300.0)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 60.0
    with pytest.raises(OSError):
        request.answer(60.0)
    assert triton.shared_memory(os.getpid()) == memory


def test_a_restart_keeps_the_ports_and_clears_the_memory(
    server_factory: Factory, echo_repository: Path, echo_backends: Path
) -> None:
    server = server_factory(echo_repository, backends=echo_backends)
    endpoints, pid, regions = server.endpoints, server.pid, triton.shared_memory(os.getpid())
    os.kill(triton.backend_processes(pid)[0], signal.SIGKILL)
    server.restart()
    assert server.endpoints == endpoints
    assert server.pid != pid
    assert triton.answers(server.http_url)
    now = triton.shared_memory(os.getpid())
    assert len(now) == len(regions)
    assert now != regions


def test_a_broken_model_is_named_with_tritons_reason(server_factory: Factory, tmp_path: Path) -> None:
    backends = triton.write_backend(tmp_path / "backends", "broken", "import no_such_module\n")
    repository = triton.write_model(tmp_path / "repository", "broken_model", backend="broken")
    memory = triton.shared_memory(os.getpid())
    with pytest.raises(ModelError) as caught:
        server_factory(repository, backends=backends)
    message = caught.value.message
    assert message.startswith("Triton refused a model: broken_model version 1:")
    assert "No module named 'no_such_module'" in message
    assert "\n" not in message
    assert "failed to load all models" in str(caught.value), "the log's tail"
    assert triton.shared_memory(os.getpid()) == memory


def test_a_text_model_that_does_not_answer_is_not_ready(server_factory: Factory, tmp_path: Path) -> None:
    silent = triton.ECHO_BACKEND.replace('"LABEL", texts', '"LABEL", 1 / 0')
    backends = triton.write_backend(tmp_path / "backends", "bert_text", silent)
    repository = triton.write_model(tmp_path / "repository", "silent", backend="bert_text")
    with pytest.raises(ModelError, match=r"model silent is loaded but does not answer: .*division by zero"):
        server_factory(repository, backends=backends, canary_timeout_s=0.5)


def test_a_lost_race_for_a_free_port_is_retried(
    server_factory: Factory, echo_repository: Path, echo_backends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved, calls = Endpoints.resolved, []
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def race(asked: Endpoints) -> Endpoints:
            calls.append(asked)
            ports = resolved(asked).ports()
            metrics_port = taken.getsockname()[1] if len(calls) == 1 else ports["metrics"]
            return Endpoints(asked.host, ports["http"], ports["grpc"], metrics_port)

        monkeypatch.setattr(Endpoints, "resolved", race)
        server = server_factory(echo_repository, backends=echo_backends)
        assert server.endpoints.metrics_port != taken.getsockname()[1]
    assert len(calls) == 2
    assert triton.answers(server.http_url)


def test_arguments_reach_triton_and_an_unload_is_not_a_death(
    server_factory: Factory, echo_repository: Path, echo_backends: Path
) -> None:
    triton.write_model(echo_repository, "other")
    server = server_factory(
        echo_repository,
        backends=echo_backends,
        extra_args=[
            "--model-control-mode",
            "explicit",
            "--load-model=echo",
            "--http-restricted-api=metadata,model-config:key=word",
        ],
    )
    assert triton.answers(server.http_url)
    assert not triton.answers(server.http_url, model="other")
    watch = Watch(server)
    for action in ("unload", "load"):
        request = urllib.request.Request(f"{server.http_url}/v2/repository/models/echo/{action}", b"{}")
        urllib.request.urlopen(request).close()
        for _ in range(ZOMBIE_SIGHTINGS + 1):
            assert watch.fault() is None
            time.sleep(WATCH_INTERVAL_S / 2)
    assert triton.answers(server.http_url)


def test_a_flag_that_triton_does_not_know_is_named(
    server_factory: Factory, echo_repository: Path, echo_backends: Path
) -> None:
    with pytest.raises(OptionError, match="--no-such-flag"):
        server_factory(echo_repository, backends=echo_backends, extra_args=["--no-such-flag=1"])


def test_only_some_models_can_be_served(server_factory: Factory, echo_repository: Path, echo_backends: Path) -> None:
    (echo_repository / "unexported").mkdir()
    (echo_repository / "unexported" / "config.pbtxt").write_text(triton.ECHO_CONFIG.format(backend="echo"))
    server = server_factory(echo_repository, backends=echo_backends, models=["echo"])
    assert [state.name for state in server.probe.models()] == ["echo"]
    assert triton.answers(server.http_url)
