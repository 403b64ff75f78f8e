"""Inputs and outputs of a graph that OpenVINO has read, in Triton's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import LoadError
from .runtime import openvino

# OpenVINO's element type -> config.pbtxt's: what the C++ backend serves.
DATA_TYPES = {
    "boolean": "TYPE_BOOL",
    "u8": "TYPE_UINT8",
    "u16": "TYPE_UINT16",
    "u32": "TYPE_UINT32",
    "u64": "TYPE_UINT64",
    "i8": "TYPE_INT8",
    "i16": "TYPE_INT16",
    "i32": "TYPE_INT32",
    "i64": "TYPE_INT64",
    "f16": "TYPE_FP16",
    "f32": "TYPE_FP32",
}
ELEMENT_TYPES = {data_type: element_type for element_type, data_type in DATA_TYPES.items()}
NO_BOUND = -1


@dataclass(frozen=True)
class Dim:
    """One dimension: its least and greatest size, the latter `NO_BOUND` where there is none."""

    least: int
    most: int

    @property
    def size(self) -> int:
        """The size, -1 where it is open."""
        return self.least if self.least == self.most else -1

    def takes(self, size: int) -> bool:
        """Whether the C++ backend lets a config say ``size``: bounds are exclusive there."""
        if self.size != -1:
            return size == self.size
        return self.most == NO_BOUND or self.least < size < self.most


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: the first of its names.
        element_type: OpenVINO's, for example ``i64``.
        dims: with the batch dimension.
        has_batch: whether the graph says which of its dimensions is the batch.
    """

    name: str
    element_type: str
    dims: tuple[Dim, ...]
    has_batch: bool

    @property
    def shape(self) -> list[int]:
        """The dims' sizes, -1 where one is open."""
        return [dim.size for dim in self.dims]

    @property
    def data_type(self) -> str:
        """Triton's data type.

        Raises:
            LoadError: Triton's OpenVINO backend does not serve it.
        """
        if self.element_type not in DATA_TYPES:
            raise LoadError(f"'{self.name}' is {self.element_type}; the backend serves {', '.join(DATA_TYPES)}")
        return DATA_TYPES[self.element_type]


@dataclass(frozen=True)
class Graph:
    """What a model takes and gives, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @classmethod
    def of(cls, model: openvino.Model) -> Graph:
        """Read a model.

        Raises:
            LoadError: an input or output has no name.
        """
        return cls(_tensors(model.inputs), _tensors(model.outputs))

    @property
    def batches(self) -> bool:
        """Whether every tensor says which dimension is its batch."""
        return all(tensor.has_batch for tensor in (*self.inputs.values(), *self.outputs.values()))


def _tensors(ports: Iterable[Any]) -> dict[str, Tensor]:
    tensors = [_tensor(port) for port in ports]
    return {tensor.name: tensor for tensor in tensors}


def _tensor(port: Any) -> Tensor:
    if not port.get_names():
        raise LoadError("an input or output of the graph has no name; save the model with names for all of them")
    if port.partial_shape.rank.is_dynamic:
        raise LoadError(f"'{port.any_name}' has an open number of dimensions; save the model with a fixed one")
    dims = tuple(Dim(dim.min_length, dim.max_length) for dim in port.partial_shape)
    has_batch = openvino.layout_helpers.has_batch(port.get_node().layout)
    return Tensor(port.any_name, port.element_type.get_type_name(), dims, has_batch)
