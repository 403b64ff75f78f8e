"""A Triton repository as the well-known kit lays it out (`bench.compare.kit`), on the same Triton as ours."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from bench.compare.contestant import SERVER, Answerer, Contestant, Unavailable, Workload
from bench.compare.http_client import TIMEOUT_S
from bench.compare.kit import layout
from bench.compare.rows.models import Kind, repository_of
from bench.models import MODELS, newest_version
from server import ServerError, TritonServer

_BATCH = 16


class _Ensemble:
    """Through NVIDIA's own client, as the kit's documentation has it."""

    def __init__(self, address: str, labels: Sequence[str], shape: list[int]) -> None:
        import tritonclient.grpc

        self._grpc = tritonclient.grpc
        self._client = tritonclient.grpc.InferenceServerClient(address)
        self._labels = labels
        self._shape = shape

    def classify(self, text: str) -> str:
        tensor = self._grpc.InferInput("TEXT", self._shape, "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode()], dtype=np.object_).reshape(self._shape))
        answer = self._client.infer(layout.ENSEMBLE, [tensor], client_timeout=TIMEOUT_S)
        return self._labels[int(np.argmax(answer.as_numpy(layout.OUTPUT)))]


def _start(precision: str, max_batch_size: int) -> Callable[[Workload], AbstractContextManager[Answerer]]:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        padded = repository_of(workload, Kind.PADDED)
        tensor_model = f"{MODELS[workload.model].text_model}_{precision}"
        onnx_model = newest_version(padded, tensor_model) / "model.onnx"
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench_kit_"))) / "repository"
            layout.write(folder, onnx_model, workload.checkpoint, len(workload.labels), max_batch_size)
            try:
                server = stack.enter_context(TritonServer(folder))
            except ServerError as exc:
                raise Unavailable(str(exc)) from exc
            address = server.grpc_url.removeprefix("grpc://")
            yield _Ensemble(address, workload.labels, [1, 1] if max_batch_size else [1])

    return start


CONTESTANTS = [
    Contestant(
        "transformer-deploy's repository on Triton, FP32",
        "defaults: max_batch_size 0, one instance",
        SERVER,
        _start("fp32", 0),
    ),
    Contestant(
        "transformer-deploy's repository on Triton, tuned INT8",
        f"dynamic batching of equal shapes, max_batch_size {_BATCH}",
        SERVER,
        _start("int8", _BATCH),
        "int8",
    ),
]
