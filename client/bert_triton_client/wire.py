"""What travels: tensors as the bytes that both protocols carry, and the HTTP body around them.

Owns encoding and decoding, pure functions only. Both protocols carry a tensor as name, datatype,
shape and little-endian bytes (BYTES: every element behind its length as uint32), so one encoding
serves both; numpy is imported only for direct access to tensors.

    texts ──encode_texts──▶ RawTensor ──▶ gRPC message │ http_body ──▶ server
    classifications ◀──decode_classifications── RawTensor ◀── gRPC message │ parse_http_body ◀──
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import contract
from .answers import Classification
from .errors import InvalidTensorError, UnexpectedAnswerError

if TYPE_CHECKING:
    import numpy as np

_LENGTH = struct.Struct("<I")

# Triton's datatype: numpy's, little-endian. BYTES is apart; numpy has no BF16.
_NUMPY_DTYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class RawTensor(NamedTuple):
    """A tensor as it travels."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class InferRequest(NamedTuple):
    """One inference; ``version`` "" leaves the choice to the server, no ``outputs`` means all."""

    model: str
    version: str
    inputs: tuple[RawTensor, ...]
    outputs: tuple[str, ...] = ()


class InferAnswer(NamedTuple):
    """What one inference answered."""

    model: str
    version: str
    outputs: dict[str, RawTensor]


def numpy_dtype(datatype: str) -> str:
    """Numpy's name of a Triton datatype.

    Raises:
        InvalidTensorError: numpy has no such type.
    """
    try:
        return _NUMPY_DTYPES[datatype]
    except KeyError:
        raise InvalidTensorError(f"datatype {datatype!r}, expected one of {', '.join(_NUMPY_DTYPES)}") from None


# --- BYTES ----------------------------------------------------------------------------------------


def encode_bytes(elements: Sequence[bytes]) -> bytes:
    """BYTES elements one after another, each behind its length."""
    pack = _LENGTH.pack
    return b"".join([part for element in elements for part in (pack(len(element)), element)])


def decode_bytes(tensor: RawTensor) -> list[bytes]:
    """The elements of a BYTES tensor.

    Raises:
        UnexpectedAnswerError: the lengths do not add up.
    """
    data, end = tensor.data, len(tensor.data)
    elements, offset = [], 0
    while offset + 4 <= end:
        start = offset + 4
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        elements.append(data[start:offset])
    if offset != end or len(elements) != math.prod(tensor.shape):
        raise UnexpectedAnswerError(
            f"output {tensor.name!r}: {end} bytes do not hold {math.prod(tensor.shape)} strings of shape {tensor.shape}"
        )
    return elements


# --- Text models ----------------------------------------------------------------------------------

_CLASSIFICATION_OUTPUTS = (contract.LABEL, contract.SCORE, contract.PROBABILITIES)


def encode_texts(model: str, version: str, texts: Sequence[bytes], *, batched: bool = True) -> InferRequest:
    """The request that classifies ``texts``; ``batched`` is false for a model with max_batch_size 0."""
    shape = (len(texts), 1) if batched else (len(texts),)
    return InferRequest(model, version, (RawTensor(contract.TEXT, "BYTES", shape, encode_bytes(texts)),))


def decode_classifications(answer: InferAnswer, count: int) -> list[Classification]:
    """The answers to ``count`` texts.

    Raises:
        UnexpectedAnswerError: an output is missing or has another size than the texts want.
    """
    label, score, probabilities = (_output(answer, name) for name in _CLASSIFICATION_OUTPUTS)
    try:
        labels = [element.decode() for element in decode_bytes(label)]
    except UnicodeDecodeError as exc:
        raise UnexpectedAnswerError(f"model {answer.model!r}: a label is not UTF-8: {exc}") from exc
    scores, values = _floats(score), _floats(probabilities)
    width = len(values) // count if count else 0
    if len(labels) != count or len(scores) != count or not width or width * count != len(values):
        raise UnexpectedAnswerError(
            f"model {answer.model!r} answered {count} texts with {len(labels)} labels, {len(scores)} scores "
            f"and {len(values)} probabilities"
        )
    rows = (values[start : start + width] for start in range(0, len(values), width))
    return list(map(Classification, labels, scores, rows))


def _output(answer: InferAnswer, name: str) -> RawTensor:
    try:
        return answer.outputs[name]
    except KeyError:
        raise UnexpectedAnswerError(
            f"model {answer.model!r} answered without {name}; it has {sorted(answer.outputs) or 'no outputs'}"
        ) from None


def _floats(tensor: RawTensor) -> tuple[float, ...]:
    if tensor.datatype != "FP32" or len(tensor.data) % 4:
        raise UnexpectedAnswerError(f"output {tensor.name!r} is {tensor.datatype}, expected FP32")
    return struct.unpack(f"<{len(tensor.data) // 4}f", tensor.data)


# --- Tensor models --------------------------------------------------------------------------------


def encode_array(name: str, array: np.ndarray[Any, Any]) -> RawTensor:
    """A numpy array as it travels; strings and bytes become BYTES.

    Raises:
        InvalidTensorError: it is not an array, or of a dtype that Triton does not have.
    """
    import numpy as np

    if not isinstance(array, np.ndarray):
        raise InvalidTensorError(f"input {name!r} is a {type(array).__name__}, expected a numpy array")
    if array.dtype.kind in "SUO":
        return RawTensor(name, "BYTES", array.shape, encode_bytes([_element(name, x) for x in array.ravel().tolist()]))
    for datatype, dtype in _NUMPY_DTYPES.items():
        if array.dtype.newbyteorder("<") == np.dtype(dtype):
            return RawTensor(name, datatype, array.shape, array.astype(dtype, copy=False).tobytes())
    raise InvalidTensorError(
        f"input {name!r} has dtype {array.dtype}, expected one of {', '.join(_NUMPY_DTYPES)} or strings"
    )


def _element(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidTensorError(f"input {name!r}: a string cannot be encoded as UTF-8: {exc}") from exc
    raise InvalidTensorError(f"input {name!r} holds a {type(value).__name__}, expected strings or bytes")


def decode_array(tensor: RawTensor) -> np.ndarray[Any, Any]:
    """A tensor as a numpy array, read-only; BYTES become an object array of ``bytes``.

    Raises:
        UnexpectedAnswerError: bytes and shape do not fit, or numpy has no such type.
    """
    import numpy as np

    if tensor.datatype == "BYTES":
        array = np.empty(math.prod(tensor.shape), dtype=object)
        array[:] = decode_bytes(tensor)
        return array.reshape(tensor.shape)
    if tensor.datatype not in _NUMPY_DTYPES:
        raise UnexpectedAnswerError(f"output {tensor.name!r} is {tensor.datatype}, which numpy cannot hold")
    try:
        return np.frombuffer(tensor.data, dtype=_NUMPY_DTYPES[tensor.datatype]).reshape(tensor.shape)
    except ValueError as exc:
        raise UnexpectedAnswerError(
            f"output {tensor.name!r}: {len(tensor.data)} bytes are no {tensor.datatype}{list(tensor.shape)}"
        ) from exc


# --- The body of an HTTP inference (KServe v2 with the binary tensor data extension) ----------------


def http_body(request: InferRequest, timeout_us: int) -> tuple[bytes, int]:
    """The body and the length of the JSON at its start."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in request.inputs
    ]
    head: dict[str, Any] = {
        "inputs": inputs,
        "parameters": {"binary_data_output": True, "timeout": timeout_us},
    }
    if request.outputs:
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
    encoded = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([encoded, *(tensor.data for tensor in request.inputs)]), len(encoded)


def parse_http_body(body: bytes, head_length: int | None) -> InferAnswer:
    """The answer in an HTTP body whose first ``head_length`` bytes are JSON.

    Raises:
        UnexpectedAnswerError: the body is not an answer, or not a binary one.
    """
    head = parse_json(body[:head_length])
    try:
        outputs, offset = {}, len(body) if head_length is None else head_length
        for output in head.get("outputs", ()):
            size = output["parameters"]["binary_data_size"]
            data, offset = body[offset : offset + size], offset + size
            if len(data) != size:
                raise UnexpectedAnswerError(f"output {output['name']!r} is cut off: {len(data)} of {size} bytes")
            outputs[output["name"]] = RawTensor(output["name"], output["datatype"], tuple(output["shape"]), data)
        return InferAnswer(head.get("model_name", ""), head.get("model_version", ""), outputs)
    except (AttributeError, KeyError, TypeError) as exc:
        raise UnexpectedAnswerError(f"not the answer of an inference: {_excerpt(body)}") from exc


def parse_json(body: bytes) -> Any:
    """JSON, or the error that says what came instead."""
    try:
        return json.loads(body)
    except ValueError as exc:
        raise UnexpectedAnswerError(f"expected JSON from Triton's HTTP port, got {_excerpt(body)}") from exc


def http_error_message(body: bytes) -> str:
    """The message of an HTTP error: Triton's ``{"error": …}``, else the start of the body."""
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    if isinstance(decoded, Mapping) and isinstance(decoded.get("error"), str):
        return str(decoded["error"])
    return _excerpt(body) if body else ""


def _excerpt(body: bytes) -> str:
    return repr(body[:100]) + (f" and {len(body) - 100} bytes more" if len(body) > 100 else "")
