"""Requests of a dynamic batch to the arrays of one run, and the run's outputs back to the requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import RequestError
from .graph import STRING, Tensor

Array = npt.NDArray[Any]


def decode_strings(array: Array, name: str) -> Array:
    """object[...] of bytes to object[...] of str, which is what ONNX Runtime takes.

    Raises:
        RequestError: an element is not valid UTF-8.
    """
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise RequestError(f"input '{name}' has a string that is not valid UTF-8: {error.reason}") from None
    return _objects(texts, array.shape)


def encode_strings(array: Array) -> Array:
    """object[...] of str to object[...] of bytes, which is what Triton takes."""
    return _objects([str(item).encode() for item in array.ravel().tolist()], array.shape)


def feed(requests: Sequence[Mapping[str, Array]], tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Inputs of one run: every input of all requests, joined along the first axis.

    Args:
        requests: inputs of each request by name, strings decoded; several only for a model that batches.
        tensors: the graph's inputs.

    Raises:
        RequestError: the requests have different inputs or shapes.
    """
    first = requests[0]
    if len(requests) == 1:
        return {name: _shaped(array, tensors[name]) for name, array in first.items()}
    try:
        return {name: np.concatenate([request[name] for request in requests]) for name in first}
    except (KeyError, ValueError) as error:
        raise RequestError(f"the requests of a batch do not fit together: {error}") from error


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """Outputs of one run, cut along the first axis into ``rows`` of each request.

    Raises:
        RequestError: an output has not as many rows as the inputs had.
    """
    if len(rows) == 1:
        return [dict(outputs)]
    for name, array in outputs.items():
        if array.shape[:1] != (sum(rows),):
            raise RequestError(f"output '{name}' has shape {list(array.shape)}; expected {sum(rows)} rows")
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def outputs_for_triton(values: Sequence[Any], names: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """ONNX Runtime's results by name, in types and ranks that Triton takes."""
    outputs = {}
    for name, value in zip(names, values, strict=True):
        array = np.asarray(value)
        if tensors[name].data_type == STRING:
            array = encode_strings(array)
        outputs[name] = array if tensors[name].dims else array.reshape(1)
    return outputs


def _shaped(array: Array, tensor: Tensor) -> Array:
    # Triton has no scalars: a scalar of the graph travels as dims [1].
    return array if tensor.dims else array.reshape(())


def _objects(items: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    return array.reshape(shape)
