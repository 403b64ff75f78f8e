"""Whether a reply is right: every output there, of its type and shape, with values that can be.

Owns decoding for that purpose, the rules, and whether two replies say the same. Pure and cheap: it runs in the loop
that makes the load.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from bert_triton_client import contract, wire
from bert_triton_client.answers import TensorInfo
from bert_triton_client.errors import UnexpectedAnswerError
from bert_triton_client.wire import InferAnswer, RawTensor
from loadtest.target import TEXT_KIND, Target
from loadtest.wire import Reply

# Two answers to one text may differ by this: INT8 models and other batches compute a little differently.
SAME_WITHIN = 1e-2
_SUM_WITHIN = 1e-3
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
# Few values are looked at faster without numpy: bytes of one, and its code in `struct`.
_FORMATS = {"FP16": (2, "e"), "FP32": (4, "f"), "FP64": (8, "d")}
_SMALL_BYTES = 1024

Decode = Callable[[Reply], InferAnswer]


def decoder(protocol: str) -> Decode:
    """What reads replies of ``gRPC`` or ``HTTP``; it raises `UnexpectedAnswerError` for what is none."""
    return _grpc_decoder() if protocol == "gRPC" else _decode_http


def _decode_http(reply: Reply) -> InferAnswer:
    return wire.parse_http_body(reply.body, reply.head_size)


def _grpc_decoder() -> Decode:
    from google.protobuf.message import DecodeError
    from tritonclient.grpc.service_pb2 import ModelInferResponse

    def decode(reply: Reply) -> InferAnswer:
        try:
            message = ModelInferResponse.FromString(reply.body)
        except DecodeError as exc:
            raise UnexpectedAnswerError(f"not a ModelInferResponse: {reply.body[:60]!r}") from exc
        outputs, contents = message.outputs, message.raw_output_contents
        if len(outputs) != len(contents):
            raise UnexpectedAnswerError(f"{len(outputs)} outputs came with the bytes of {len(contents)}")
        return InferAnswer(
            message.model_name,
            message.model_version,
            {
                one.name: RawTensor(one.name, one.datatype, tuple(one.shape), data)
                for one, data in zip(outputs, contents, strict=True)
            },
        )

    return decode


class Rules:
    """What replies to requests of one target and batch size must be."""

    def __init__(self, target: Target, batch_size: int) -> None:
        self._version = target.version
        self._batch_size = batch_size
        self._is_batched = target.max_batch_size > 0
        self._outputs = target.outputs
        types = {output.name: output.datatype for output in target.outputs}
        scored = {contract.LABEL: "BYTES", contract.SCORE: "FP32", contract.PROBABILITIES: "FP32"}
        self._is_classification = target.kind == TEXT_KIND and all(types.get(k) == v for k, v in scored.items())

    def broken(self, answer: InferAnswer) -> str | None:
        """The first rule that an answer breaks, in one sentence; None if it is right."""
        if answer.version and self._version and answer.version != self._version:
            return f"version {answer.version} answered, expected version {self._version}"
        for output in self._outputs:
            tensor = answer.outputs.get(output.name)
            if tensor is None:
                return f"output {output.name!r} is missing: the reply has {', '.join(answer.outputs) or 'none'}"
            problem = self._form(output, tensor) or self._content(output, tensor)
            if problem:
                return f"output {output.name!r} {problem}"
        return self._scores(answer) if self._is_classification else None

    def _form(self, output: TensorInfo, tensor: RawTensor) -> str | None:
        if tensor.datatype != output.datatype:
            return f"is {tensor.datatype}, expected {output.datatype}"
        if not self._fits(output.dims, tensor.shape):
            expected = [*([self._batch_size] if self._is_batched else []), *output.dims]
            return f"has shape {list(tensor.shape)} for {self._batch_size} rows, expected {expected}"
        return None

    def _fits(self, dims: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        row = shape
        if self._is_batched:
            if not shape or shape[0] != self._batch_size:
                return False
            row = shape[1:]
        elif dims and dims[0] < 0 and not self._counts_rows(dims, shape):
            return False
        return len(row) == len(dims) and all(dim in (size, -1) for dim, size in zip(dims, row, strict=True))

    def _counts_rows(self, dims: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        """Without a batch dimension the first dim counts rows; an only dim may also count values of each row."""
        if not shape or not shape[0]:
            return False
        return shape[0] == self._batch_size if len(dims) > 1 else shape[0] % self._batch_size == 0

    def _content(self, output: TensorInfo, tensor: RawTensor) -> str | None:
        if output.datatype == "BYTES":
            return _broken_strings(tensor)
        expected = math.prod(tensor.shape) * _value_bytes(output.datatype)
        if len(tensor.data) != expected:
            return f"has {len(tensor.data)} bytes for shape {list(tensor.shape)}, expected {expected}"
        return _not_finite(tensor)

    def _scores(self, answer: InferAnswer) -> str | None:
        for name in (contract.SCORE, contract.PROBABILITIES):
            if not answer.outputs[name].data:
                return f"output {name!r} is empty, expected a value for each of {self._batch_size} rows"
        scores = _unpacked(answer.outputs[contract.SCORE])
        low, high = min(scores), max(scores)
        if low < 0 or high > 1:
            return f"output {contract.SCORE!r} is {low if low < 0 else high:g}, expected 0 to 1"
        values = _unpacked(answer.outputs[contract.PROBABILITIES])
        if min(values) < 0:
            return f"output {contract.PROBABILITIES!r} holds {min(values):g}, expected 0 or more"
        width = len(values) // self._batch_size
        for row, total in enumerate(map(sum, zip(*[iter(values)] * width, strict=False))):
            if abs(total - 1) > _SUM_WITHIN:
                return f"output {contract.PROBABILITIES!r} of row {row} sums to {total:g}, expected 1"
        return None


@functools.cache
def _value_bytes(datatype: str) -> int:
    return 2 if datatype == "BF16" else np.dtype(wire.numpy_dtype(datatype)).itemsize


def _broken_strings(tensor: RawTensor) -> str | None:
    try:
        strings = wire.decode_bytes(tensor)
    except UnexpectedAnswerError:
        return f"has {len(tensor.data)} bytes, which are no {math.prod(tensor.shape)} strings"
    return None if all(strings) else f"is an empty string in row {strings.index(b'')}"


def _not_finite(tensor: RawTensor) -> str | None:
    is_small = tensor.datatype in _FORMATS and len(tensor.data) <= _SMALL_BYTES
    if is_small and all(map(math.isfinite, _unpacked(tensor))):
        return None
    values = _floats(tensor)
    if values is None or np.isfinite(values).all():
        return None
    place = int(np.flatnonzero(~np.isfinite(values))[0])
    return f"holds {values[place]} at position {place}, expected finite numbers"


def _unpacked(tensor: RawTensor) -> tuple[float, ...]:
    size, code = _FORMATS[tensor.datatype]
    return struct.unpack(f"<{len(tensor.data) // size}{code}", tensor.data)


def _floats(tensor: RawTensor) -> np.ndarray[Any, Any] | None:
    """The values of a tensor of floats; None for any other."""
    if tensor.datatype == "BF16":  # the upper half of an FP32
        return (np.frombuffer(tensor.data, "<u2").astype("<u4") << 16).view("<f4")
    dtype = _FLOATS.get(tensor.datatype)
    return None if dtype is None else np.frombuffer(tensor.data, dtype)


def same(first: InferAnswer, second: InferAnswer) -> bool:
    """Whether two answers to one request say the same: strings and integers equal, floats within `SAME_WITHIN`."""
    return first.outputs.keys() == second.outputs.keys() and all(
        _same(tensor, second.outputs[name]) for name, tensor in first.outputs.items()
    )


def _same(one: RawTensor, other: RawTensor) -> bool:
    if one[:3] != other[:3] or len(one.data) != len(other.data):
        return one.datatype == other.datatype == "BYTES" and one == other
    values, others = _floats(one), _floats(other)
    if values is None or others is None:
        return one.data == other.data
    return bool((np.abs(values.astype("<f8") - others.astype("<f8")) <= SAME_WITHIN).all())
