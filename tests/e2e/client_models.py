"""Trivial models for the client's tests, and one way to call all four clients.

The text model answers with the text itself as its label, so that order can be checked, at a cost that
lets 100,000 texts through in seconds. It obeys a few texts: ``sleep 0.5``, ``busy FILE 0.5`` (makes the
file and sleeps until that is removed, or so long), ``fault`` and whatever is empty, which it refuses as
`backends/bert_text` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_triton_client import AsyncClient, Client
from server import TritonServer
from tests.e2e import triton

BACKEND = """
import os
import time

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = pb.get_input_tensor_by_name(request, "TEXT").as_numpy()
        for index, text in enumerate(texts.ravel().tolist()):
            if text.startswith(b"sleep "):
                time.sleep(float(text.split()[1]))
            elif text.startswith(b"busy "):
                open(text.split()[1], "x").close()
                until = time.monotonic() + float(text.split()[2])
                while time.monotonic() < until and os.path.exists(text.split()[1]):
                    time.sleep(0.01)
            elif text == b"fault":
                return pb.InferenceResponse(error=pb.TritonError("something broke"))
            elif not text.strip():
                message = f"TEXT[{index}]: no tokens in {len(text)} bytes"
                return pb.InferenceResponse(error=pb.TritonError(message, pb.TritonError.INVALID_ARG))
        probabilities = np.tile(np.array([0.25, 0.75], np.float32), (len(texts), 1))
        return pb.InferenceResponse([
            pb.Tensor("LABEL", texts),
            pb.Tensor("SCORE", probabilities[:, 1:]),
            pb.Tensor("PROBABILITIES", probabilities),
        ])
"""

TENSOR_BACKEND = """
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        ids, mask = (pb.get_input_tensor_by_name(request, n).as_numpy() for n in ("input_ids", "attention_mask"))
        return pb.InferenceResponse([pb.Tensor("logits", np.stack([ids.sum(1), mask.sum(1)], 1).astype(np.float32))])
"""

# No queue policy: with one, this Triton lets a lone request wait for 500 ms every few hundred requests.
TEXT_CONFIG = """
backend: "{backend}"
max_batch_size: 64
input [{{ name: "TEXT" data_type: TYPE_STRING dims: [1] }}]
output [
  {{ name: "LABEL" data_type: TYPE_STRING dims: [1] }},
  {{ name: "SCORE" data_type: TYPE_FP32 dims: [1] }},
  {{ name: "PROBABILITIES" data_type: TYPE_FP32 dims: [2] }}
]
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{ }}
parameters {{ key: "task" value: {{ string_value: "text-classification" }} }}
"""

# Refuses what two waiting requests leave no room for.
NARROW_CONFIG = TEXT_CONFIG.replace("max_batch_size: 64", "max_batch_size: 1").replace(
    "dynamic_batching {{ }}",
    "dynamic_batching {{ default_queue_policy {{ timeout_action: REJECT "
    "default_timeout_microseconds: 30000000 allow_timeout_override: true max_queue_size: 2 }} }}",
)

TENSOR_CONFIG = """
backend: "{backend}"
max_batch_size: 8
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [-1] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [-1] }}
]
output [{{ name: "logits" data_type: TYPE_FP32 dims: [2] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""

CLIENTS = [f"{flavour}-{protocol}" for protocol in ("grpc", "http") for flavour in ("sync", "async")]


def write(folder: Path) -> tuple[Path, Path]:
    """Writes the models; returns the repository and the folder of backends."""
    backends = triton.write_backend(folder / "backends", "client_text", BACKEND)
    triton.write_backend(backends, "client_tensor", TENSOR_BACKEND)
    repository = folder / "repository"
    triton.write_model(repository, "sentiment", backend="client_text", config=TEXT_CONFIG)
    triton.write_model(repository, "narrow", backend="client_text", config=NARROW_CONFIG)
    triton.write_model(repository, "sentiment_tensors", backend="client_tensor", config=TENSOR_CONFIG)
    return repository, backends


class Blocking:
    """An `AsyncClient` called like a `Client`, so that both run the same test."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **options)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "classify_iter":
                return self._runner.run(self._collect(*args, **kwargs))
            return self._runner.run(getattr(self._client, name)(*args, **kwargs))

        return call

    async def _collect(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return iter([answer async for answer in self._client.classify_iter(*args, **kwargs)])

    def finish(self) -> None:
        """Closes the client and its event loop."""
        self._runner.run(self._client.close())
        self._runner.close()


def url(server: TritonServer, kind: str) -> str:
    """The URL that a client of this kind wants."""
    return server.grpc_url if kind.endswith("grpc") else server.http_url


@contextlib.contextmanager
def connect(server: TritonServer, kind: str, **options: Any) -> Iterator[Any]:
    """A client of one of the four kinds in `CLIENTS`."""
    if kind.startswith("sync"):
        with Client(url(server, kind), **options) as client:
            yield client
        return
    blocking = Blocking(url(server, kind), **options)
    try:
        yield blocking
    finally:
        blocking.finish()
