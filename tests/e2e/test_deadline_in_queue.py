"""Without a queue policy, what waits is bounded by the clients' deadlines: Triton drops what nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from server import TritonServer
from tests.e2e import triton

BUSY_S = 120.0  # or until the test says so
WAITING = 8
PREFETCHED = 2  # batches that Triton takes out of the queue ahead of one instance; they are computed whoever waits


def ask(url: str, text: str, timeout_s: float | None = None) -> str:
    with triton_grpc.InferenceServerClient(url.removeprefix("grpc://")) as client:
        tensor = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        return str(client.infer("echo", [tensor], client_timeout=timeout_s).as_numpy("LABEL")[0, 0].decode())


def test_a_request_whose_grpc_deadline_passed_in_the_queue_is_not_computed(
    server_factory: Callable[..., TritonServer], echo_backends: Path, echo_repository: Path, tmp_path: Path
) -> None:
    config = echo_repository / "echo" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 1") + "dynamic_batching {}\n")
    server = server_factory(echo_repository, backends=echo_backends)
    with ThreadPoolExecutor(WAITING + 1) as pool:
        busy = pool.submit(ask, server.grpc_url, f"busy {tmp_path / 'busy'} {BUSY_S}")
        triton.eventually((tmp_path / "busy").exists, 60, "the request that the others wait for")
        waiting = [pool.submit(ask, server.grpc_url, f"busy {tmp_path / str(i)} 0", 0.5) for i in range(WAITING)]
        for request in waiting:
            with pytest.raises(InferenceServerException, match="Deadline"):
                request.result()
        assert not busy.done()
        (tmp_path / "busy").unlink()
        assert busy.result()
    assert ask(server.grpc_url, "hello") == "hello"
    assert len([i for i in range(WAITING) if (tmp_path / str(i)).exists()]) <= PREFETCHED
