"""Rewriting an ONNX graph node by node, and describing one for the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from export.fuse import CONTRIB_DOMAIN, count_fused, node_counts
from export.manifest import GraphReport

# Products of a quantised activation with a quantised weight.
QUANTIZED_PRODUCTS = ("QAttention", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger", "QLinearMatMul")


class GraphEditor:
    """A copy of a model whose nodes are laid down again, one after another, some of them replaced.

    Weights that no node uses any more are dropped by `finish`.
    """

    def __init__(self, model: Any) -> None:
        self._model = type(model)()
        self._model.CopyFrom(model)
        self._weights = {weight.name: weight for weight in self._model.graph.initializer}
        self._nodes: list[Any] = []

    @property
    def opset(self) -> int:
        """The version of ONNX's own operator set."""
        return max(entry.version for entry in self._model.opset_import if entry.domain in ("", "ai.onnx"))

    def has_weight(self, name: str) -> bool:
        """Whether ``name`` is a constant of the graph."""
        return name in self._weights

    def weight(self, name: str) -> NDArray[Any]:
        """The constant ``name``."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._weights[name])

    def constant(self, name: str, value: ArrayLike) -> str:
        """Adds a constant, unless one of that name is there; returns its name."""
        from onnx import numpy_helper

        if name not in self._weights:
            tensor = numpy_helper.from_array(np.asarray(value), name)
            self._model.graph.initializer.append(tensor)
            self._weights[name] = tensor
        return name

    def keep(self, node: Any) -> None:
        """Lays down ``node`` as it is."""
        self._nodes.append(node)

    def add(self, operator: str, inputs: list[str], outputs: list[str], *, domain: str = "", **attributes: Any) -> str:
        """Lays down a new node; returns the name of its first output."""
        from onnx import helper

        node = helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}/{operator}", domain=domain, **attributes)
        self._nodes.append(node)
        return outputs[0]

    def has_output(self, name: str) -> bool:
        """Whether a node laid down so far puts out ``name``."""
        return any(name in node.output for node in self._nodes)

    def finish(self) -> Any:
        """The rewritten model."""
        from onnx import helper

        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input} | {output.name for output in graph.output}
        kept = [weight for weight in graph.initializer if weight.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]  # shapes and types of tensors that may have changed
        if not any(entry.domain == CONTRIB_DOMAIN for entry in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(CONTRIB_DOMAIN, 1))
        return self._model


def describe(model: Any, size_bytes: int) -> GraphReport:
    """What ``model`` is made of, as the manifest states it."""
    nodes = node_counts(model)
    return GraphReport(
        size_bytes=size_bytes,
        nodes=dict(sorted(nodes.items())),
        fused=count_fused(nodes),
        quantized_matmuls=sum(nodes[name] for name in QUANTIZED_PRODUCTS),
    )


def opsets(model: Any) -> dict[str, int]:
    """The operator sets of ``model``: {domain: version}."""
    return {entry.domain: entry.version for entry in model.opset_import}
