"""Replies as a Triton would encode them, and targets to ask for them; for the tests of payloads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bert_triton_client.answers import TensorInfo
from bert_triton_client.wire import RawTensor
from loadtest.target import InputTensor, Target
from loadtest.wire import Reply

URLS = {"gRPC": "grpc://localhost:8001", "HTTP": "http://localhost:8000"}

TEXT_OUTPUTS = (
    TensorInfo("LABEL", "BYTES", (1,)),
    TensorInfo("SCORE", "FP32", (1,)),
    TensorInfo("PROBABILITIES", "FP32", (2,)),
)


def text_target(protocol: str = "gRPC", *, dims: tuple[int, ...] = (1,), max_batch_size: int = 64) -> Target:
    """A text model, like those that this project exports."""
    inputs = (InputTensor("TEXT", "BYTES", dims, "text"),)
    return Target(URLS[protocol], "sentiment", "1", "text", inputs, TEXT_OUTPUTS, max_batch_size)


def tensor_target(
    protocol: str = "gRPC",
    *,
    datatype: str = "INT64",
    dims: tuple[int, ...] = (-1,),
    max_batch_size: int = 64,
    outputs: tuple[TensorInfo, ...] = (TensorInfo("logits", "FP32", (2,)),),
    roles: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
) -> Target:
    """A tensor model; its inputs are named after their roles."""
    inputs = tuple(InputTensor(role, datatype, dims, role) for role in roles)
    return Target(URLS[protocol], "sentiment_fp32", "1", "tensors", inputs, outputs, max_batch_size)


def reply(protocol: str, tensors: Sequence[RawTensor], *, version: str = "1") -> Reply:
    """The tensors as the server sends them."""
    return _grpc(tensors, version) if protocol == "gRPC" else _http(tensors, version)


def _grpc(tensors: Sequence[RawTensor], version: str) -> Reply:
    from tritonclient.grpc.service_pb2 import ModelInferResponse

    message = ModelInferResponse(model_name="sentiment", model_version=version)
    for name, datatype, shape, data in tensors:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(data)
    return Reply(message.SerializeToString(), None)


def _http(tensors: Sequence[RawTensor], version: str) -> Reply:
    outputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in tensors
    ]
    head = json.dumps({"model_name": "sentiment", "model_version": version, "outputs": outputs}).encode()
    return Reply(head + b"".join(tensor.data for tensor in tensors), len(head))
