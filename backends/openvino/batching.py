"""Requests of a dynamic batch to the arrays of one run, and the run's outputs back to the requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InferenceError, RequestError

Array = npt.NDArray[Any]


def check_request(arrays: Mapping[str, Array], names: Iterable[str]) -> None:
    """Refuse a request that is not whole.

    Raises:
        RequestError: an input is missing or empty.
    """
    for name in names:
        if name not in arrays:
            raise RequestError(f"input '{name}' is missing")
        if not arrays[name].size:
            raise RequestError(f"input '{name}' is empty (shape {list(arrays[name].shape)})")


def feed(requests: Sequence[Mapping[str, Array]], batch_size: int = 0) -> dict[str, Array]:
    """Inputs of one run: every input of all requests, joined along the first axis.

    Args:
        requests: inputs of each request by name; several only for a model that batches.
        batch_size: rows to fill up to, with zeros; 0 for a model without batches.

    Raises:
        RequestError: the requests have different inputs or shapes.
    """
    if len(requests) == 1 and not batch_size:
        return dict(requests[0])
    try:
        return {name: _joined([request[name] for request in requests], batch_size) for name in requests[0]}
    except (KeyError, ValueError) as error:
        raise RequestError(f"the requests of a batch do not fit together: {error}") from error


def split(outputs: Mapping[str, Array], rows: Sequence[int], batch_size: int = 0) -> list[dict[str, Array]]:
    """Outputs of one run, cut along the first axis into ``rows`` of each request; what fills up is left out.

    Args:
        outputs: by name.
        rows: of each request.
        batch_size: rows of the run; 0 for a model without batches.

    Raises:
        InferenceError: an output has not as many rows as the run.
    """
    if not batch_size:
        return [dict(outputs)]
    for name, array in outputs.items():
        if array.shape[:1] != (batch_size,):
            raise InferenceError(
                f"expected the batch size of output '{name}' to be {batch_size}, got shape {list(array.shape)}"
            )
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def _joined(arrays: Sequence[Array], batch_size: int) -> Array:
    missing = batch_size - sum(len(array) for array in arrays)
    if missing > 0:
        arrays = [*arrays, np.zeros((missing, *arrays[0].shape[1:]), arrays[0].dtype)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
