"""Whether a graph takes inputs of given shapes, found out without running it.

OpenVINO's CPU plugin must not be asked: see the package's docstring for what it does with shapes that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .errors import reason
from .graph import Graph
from .runtime import openvino

MAX_REMEMBERED = 1024
NO_LIMIT = 1 << 20
USUAL_LIMIT = 512  # of BERT's position embeddings

Shapes = Mapping[str, "tuple[int, ...]"]


class ShapeInference:
    """OpenVINO's shape inference, asked as rarely as possible: on BERT-base an answer takes as long as a short text.

    A model's inputs usually share their open dimensions (``input_ids`` and ``attention_mask`` are both
    [batch_size, sequence_length]), so how far those can go is found out once, when the model loads, and only a request
    beyond that, or with dimensions that differ from one another, is a question of its own.

    Args:
        model: the graph; left as it is.
        read: reads it again, on the first question.
    """

    def __init__(self, model: openvino.Model, read: Callable[[], openvino.Model]) -> None:
        self._dims = {name: tensor.shape for name, tensor in Graph.of(model).inputs.items()}
        self._read = read
        self._model: openvino.Model | None = None
        self._answers: dict[tuple[tuple[int, ...], ...], str] = {}
        open_axes = {axis for dims in self._dims.values() for axis, size in enumerate(dims) if size == -1}
        probe = model.clone()
        self._limits = {axis: self._limit(probe, axis) for axis in sorted(open_axes)}

    def objection(self, shapes: Shapes) -> str:
        """Why the graph takes no inputs of these shapes, in OpenVINO's words; empty when nothing speaks against it."""
        if self._usual(shapes):
            return ""
        key = tuple(shapes[name] for name in self._dims)
        if key not in self._answers:
            if len(self._answers) >= MAX_REMEMBERED:
                self._answers.clear()
            self._model = self._model or self._read()
            self._answers[key] = _infer(self._model, shapes)
        return self._answers[key]

    def _usual(self, shapes: Shapes) -> bool:
        """Whether every open axis has one size in all inputs, within its limit."""
        sizes: dict[int, int] = {}
        for name, dims in self._dims.items():
            # An input of another number of dimensions passes: OpenVINO refuses it when it is set.
            for axis, (expected, size) in enumerate(zip(dims, shapes[name], strict=False)):
                if expected == -1 and (sizes.setdefault(axis, size) != size or size > self._limits[axis]):
                    return False
        return True

    def _limit(self, model: openvino.Model, axis: int) -> int:
        """A power of two up to which an axis, the others being 1, is surely taken; 0 where there is none."""

        def takes(size: int) -> bool:
            shapes = {
                name: tuple((size if own == axis else 1) if dim == -1 else dim for own, dim in enumerate(dims))
                for name, dims in self._dims.items()
            }
            return not _infer(model, shapes)

        if takes(NO_LIMIT):
            return NO_LIMIT
        limit = USUAL_LIMIT
        if takes(limit):
            while takes(limit * 2):
                limit *= 2
            return limit
        while limit and not takes(limit):
            limit //= 2
        return limit


def _infer(model: openvino.Model, shapes: Shapes) -> str:
    try:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
    except RuntimeError as error:
        return reason(error)
    return ""
