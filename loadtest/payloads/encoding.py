"""From rows to the body of a request, gRPC or HTTP; opens no connection.

Owns shapes with padding and both protocols' bodies. Everything that is the same in every request is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bert_triton_client import wire
from bert_triton_client.transports import timeout_us
from bert_triton_client.wire import RawTensor
from loadtest.cell import CellSpec
from loadtest.payloads.tokens import Row
from loadtest.target import InputTensor, Target, roles, shapes
from loadtest.wire import Request

INTEGER_BYTES = {"INT32": 4, "INT64": 8}


class Encode(Protocol):
    """Inputs to the request that carries them."""

    def __call__(self, inputs: Sequence[RawTensor]) -> Request:
        """Encodes one request."""


def encoder(spec: CellSpec, target: Target) -> Encode:
    """The encoder of the protocol that the cell speaks.

    Both protocols carry the time after which nobody waits for the answer, as this project's client does, so that a
    server that minds it may drop the request from its queue.
    """
    return _grpc_encoder(spec, target) if spec.protocol == "gRPC" else _http_encoder(spec, target)


def _wanted(spec: CellSpec) -> tuple[str, ...]:
    """Outputs that are asked for by name; none asks for all."""
    return tuple(dict.fromkeys(spec.names.outputs))


def _grpc_encoder(spec: CellSpec, target: Target) -> Encode:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    frame = ModelInferRequest(model_name=target.model, model_version=spec.version)
    for name in _wanted(spec):
        frame.outputs.add(name=name)
    frame.parameters["timeout"].int64_param = timeout_us(spec.timeout_s)
    constant = frame.SerializeToString()

    def encode(inputs: Sequence[RawTensor]) -> Request:
        # Serialised messages behind one another are one message.
        message = ModelInferRequest(raw_input_contents=[data for _, _, _, data in inputs])
        for name, datatype, shape, _ in inputs:
            message.inputs.add(name=name, datatype=datatype, shape=shape)
        return Request(constant + message.SerializeToString(), 0)

    return encode


def _http_encoder(spec: CellSpec, target: Target) -> Encode:
    outputs, limit_us = _wanted(spec), timeout_us(spec.timeout_s)

    def encode(inputs: Sequence[RawTensor]) -> Request:
        return Request(*wire.http_body(wire.InferRequest(target.model, spec.version, tuple(inputs), outputs), limit_us))

    return encode


def text_tensors(target: Target, batch_size: int) -> Callable[[Sequence[bytes]], list[RawTensor]]:
    """What makes the one input of a text model from its texts."""
    (tensor,) = target.inputs
    shape = shapes.shape(tensor.dims, tensor.role, target.max_batch_size, batch_size=batch_size)

    def tensors(texts: Sequence[bytes]) -> list[RawTensor]:
        return [RawTensor(tensor.name, "BYTES", shape, wire.encode_bytes(texts))]

    return tensors


def token_tensors(target: Target, batch_size: int) -> Callable[[Sequence[Row]], list[RawTensor]]:
    """What makes the inputs of a tensor model from rows: padded to the longest, or to the model's fixed length."""
    fixed = target.fixed_length

    def tensors(rows: Sequence[Row]) -> list[RawTensor]:
        length = fixed or max(row.length for row in rows)
        return [_tensor(one, target.max_batch_size, batch_size, length, rows) for one in target.inputs]

    return tensors


def _tensor(one: InputTensor, max_batch_size: int, batch_size: int, length: int, rows: Sequence[Row]) -> RawTensor:
    size = INTEGER_BYTES[one.datatype]
    shape = shapes.shape(one.dims, one.role, max_batch_size, batch_size=batch_size, length=length)
    if one.role == roles.INPUT_IDS:
        data = b"".join([row.ids.ljust(length * size, b"\0") for row in rows])
    elif one.role == roles.ATTENTION_MASK:
        one_bytes = (1).to_bytes(size, "little")
        data = b"".join([(one_bytes * row.length).ljust(length * size, b"\0") for row in rows])
    else:
        data = bytes(batch_size * length * size)
    return RawTensor(one.name, one.datatype, shape, data)
