"""Inputs and outputs of a loaded graph, in Triton's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnxruntime

from .errors import LoadError

# ONNX Runtime's type -> config.pbtxt's. Types that numpy lacks (bfloat16) or Triton lacks (complex64) are missing.
DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
STRING = "TYPE_STRING"


@dataclass(frozen=True)
class Tensor:
    """One input or output: ``dims`` with the batch dimension, -1 where the graph leaves it open."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """What a session takes and gives.

    Attributes:
        inputs: by name.
        optional_inputs: initialisers that a request may override.
        outputs: by name.
    """

    inputs: dict[str, Tensor]
    optional_inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession) -> Graph:
        """Read a session.

        Raises:
            LoadError: an input or output has a type that cannot be served.
        """
        return cls(
            _tensors(session.get_inputs()),
            _tensors(session.get_overridable_initializers()),
            _tensors(session.get_outputs()),
        )

    @property
    def batches(self) -> bool:
        """Whether every tensor's first dimension is open."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return all(tensor.dims and tensor.dims[0] == -1 for tensor in tensors)


def _tensors(arguments: Iterable[Any]) -> dict[str, Tensor]:
    return {argument.name: _tensor(argument) for argument in arguments}


def _tensor(argument: Any) -> Tensor:
    if argument.type not in DATA_TYPES:
        raise LoadError(f"'{argument.name}' is {argument.type}; this stand-in serves {', '.join(DATA_TYPES)}")
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in argument.shape)
    return Tensor(argument.name, DATA_TYPES[argument.type], dims)
