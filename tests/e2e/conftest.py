"""Fixtures with the real Triton. Every one picks free ports and ends every process in its teardown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import TritonServer
from tests.collector import Collector
from tests.e2e import triton

START_TIMEOUT_S = 120.0


@pytest.fixture(scope="session")
def demo_repository() -> Path:
    """The exported demo repository of this checkout."""
    if not list(triton.DEMO_REPOSITORY.glob("*/[0-9]*")):
        pytest.skip("the demo model is not exported; run `make demo`")
    return triton.DEMO_REPOSITORY


@pytest.fixture(scope="session")
def demo_server(demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The real Triton on the demo repository, one per test session (per xdist worker)."""
    log_path = tmp_path_factory.mktemp("demo_server") / "tritonserver.log"
    server = TritonServer(demo_repository, exit_timeout_s=1, log_path=log_path)
    server.start(START_TIMEOUT_S)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Takes the traces of a module's servers."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def module_server_factory() -> Iterator[Callable[..., TritonServer]]:
    """As `server_factory`, for servers that the tests of a module share."""
    yield from _factory()


@pytest.fixture
def server_factory() -> Iterator[Callable[..., TritonServer]]:
    """``server_factory(repository, **TritonServer's options)`` starts a server; all end with the test."""
    yield from _factory()


def _factory() -> Iterator[Callable[..., TritonServer]]:
    servers: list[TritonServer] = []

    def start(repository: Path, **options: Any) -> TritonServer:
        server = TritonServer(repository, **{"exit_timeout_s": 1, **options})
        servers.append(server)
        server.start(START_TIMEOUT_S)
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.kill()  # a trivial server has nothing to finish; stopping has tests of its own


@pytest.fixture(scope="session")
def echo_backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of backends with the trivial one, ``echo``."""
    return triton.write_backend(tmp_path_factory.mktemp("echo_backends"))


@pytest.fixture
def echo_repository(tmp_path: Path) -> Path:
    """A model repository with one trivial model, ``echo``."""
    triton.write_model(tmp_path / "echo_repository", "echo")
    return tmp_path / "echo_repository"
