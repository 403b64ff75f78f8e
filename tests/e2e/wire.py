"""Raw requests over both protocols, without this project's client: what any client of the server sees.

``Refusal.kind`` is the gRPC status code's name; for HTTP it is the status code that Triton gives for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from server import TritonServer


class Refusal(Exception):
    """The server refused a request."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass
class Answer:
    """What a text model answered: one entry a text."""

    labels: list[str]
    scores: np.ndarray
    probabilities: np.ndarray


class Wire:
    """One connection to the server, by tritonclient alone."""

    def __init__(self, protocol: str, server: TritonServer) -> None:
        self.protocol = protocol
        self.module: Any = {"http": triton_http, "grpc": triton_grpc}[protocol]
        url = {"http": server.http_url, "grpc": server.grpc_url}[protocol]
        options = {"network_timeout": 60.0} if protocol == "http" else {}
        self.client = self.module.InferenceServerClient(url.split("://")[1], **options)

    def close(self) -> None:
        with suppress(Exception):
            self.client.close()

    def infer(
        self, model: str, inputs: dict[str, np.ndarray], *, version: str = "", timeout_us: int | None = None
    ) -> Any:
        """Raises `Refusal`."""
        tensors = []
        for name, array in inputs.items():
            tensor = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        try:
            return self.client.infer(model, tensors, model_version=version, timeout=timeout_us)
        except InferenceServerException as exc:
            raise Refusal(str(exc.status()).removeprefix("StatusCode."), exc.message()) from exc

    def ask(self, texts: Sequence[str | bytes], model: str = "sentiment", *, timeout_us: int | None = None) -> Answer:
        raw = [text.encode() if isinstance(text, str) else text for text in texts]
        result = self.infer(model, {"TEXT": np.array(raw, dtype=object).reshape(-1, 1)}, timeout_us=timeout_us)
        return Answer(
            labels=[label.decode() for label in result.as_numpy("LABEL").ravel()],
            scores=result.as_numpy("SCORE").ravel(),
            probabilities=result.as_numpy("PROBABILITIES"),
        )
