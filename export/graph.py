"""Rewriting an ONNX graph node by node, and describing one for the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from export.fuse import CONTRIB_DOMAIN, count_fused, node_counts
from export.manifest import GraphReport

# Products of a quantised activation with a quantised weight, beside a MatMul of two DequantizeLinear.
QUANTIZED_PRODUCTS = ("QAttention", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger", "QLinearMatMul")


class GraphEditor:
    """A copy of a model whose nodes are laid down again, one after another, some of them replaced.

    Nodes and weights that no output depends on any more are dropped by `finish`.
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
            self._weights[name] = self._model.graph.initializer.add()
            self._weights[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))
        return name

    def replace(self, name: str, value: ArrayLike) -> None:
        """Gives the constant ``name`` another value."""
        from onnx import numpy_helper

        self._weights[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))

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

    def rename(self, name: str, to: str) -> None:
        """Gives the tensor ``name`` of the nodes laid down so far another name."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [to if one == name else one for one in names]

    def finish(self) -> Any:
        """The rewritten model."""
        from onnx import helper

        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self._read_nodes())
        used = _read_names(graph.node) | {output.name for output in graph.output}
        kept = [weight for weight in graph.initializer if weight.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]  # shapes and types of tensors that may have changed
        if not any(entry.domain == CONTRIB_DOMAIN for entry in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(CONTRIB_DOMAIN, 1))
        return self._model

    def _read_nodes(self) -> list[Any]:
        """The nodes that an output depends on."""
        read = {output.name for output in self._model.graph.output}
        kept = []
        for node in reversed(self._nodes):
            if read & set(node.output):
                read |= _read_names([node])
                kept.append(node)
        return kept[::-1]


def describe(model: Any, size_bytes: int) -> GraphReport:
    """What ``model`` is made of, as the manifest states it."""
    nodes = node_counts(model)
    return GraphReport(
        size_bytes=size_bytes,
        nodes=dict(sorted(nodes.items())),
        fused=count_fused(nodes),
        quantized_matmuls=sum(nodes[name] for name in QUANTIZED_PRODUCTS) + _dequantized_products(model),
    )


def _dequantized_products(model: Any) -> int:
    """How many MatMul of ``model`` have both inputs from DequantizeLinear: QDQ, which engines compute in 8 bits."""
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type == "MatMul" and set(node.input) <= rounded for node in model.graph.node)


def opsets(model: Any) -> dict[str, int]:
    """The operator sets of ``model``: {domain: version}."""
    return {entry.domain: entry.version for entry in model.opset_import}


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of ``node``: {name: value}; texts are bytes."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def has_subgraphs(model: Any) -> bool:
    """Whether a node of ``model`` has graphs of its own (If, Loop, Scan), which read tensors without taking them."""
    return any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute)


def inline_constants(model: Any) -> Any:
    """A copy of ``model`` with its Constant nodes turned into weights."""
    inlined = type(model)()
    inlined.CopyFrom(model)
    nodes = []
    for node in inlined.graph.node:
        value = attributes(node).get("value") if node.op_type == "Constant" else None
        if value is None:
            nodes.append(node)
            continue
        weight = inlined.graph.initializer.add()
        weight.CopyFrom(value)
        weight.name = node.output[0]
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del inlined.graph.node[:]
    inlined.graph.node.extend(kept)
    return inlined


def _read_names(nodes: Any) -> set[str]:
    """The tensors that ``nodes`` read, those of their own graphs included."""
    names = set()
    for node in nodes:
        names |= set(node.input)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                names |= _read_names(graph.node) | {output.name for output in graph.output}
    return names
