"""Packs a fused graph: padding is dropped right after the inputs, and put back only where a layout is needed.

    input_ids, attention_mask, token_type_ids [batch_size, sequence_length]      the standard signature
        │ keep the real tokens
    [tokens, hidden_size]     embeddings, projections, LayerNormalization, GELU
        │ each layer: by sequence ── attention ── back to tokens
    logits [batch_size, labels]                                                  the standard signature

What a batch costs then is what its tokens cost, however unequal its texts are. Rows are laid out by sequence by a
Gather whose index repeats some token wherever there is none: what stands there is masked, and read by nobody.

The answer is the fused graph's for every mask, not for padding on the right alone: positions come from the columns,
masked keys stay masked, and a row that does not begin with a token (padding on the left, or nothing but padding) is
kept whole, because its answer is read from its first column.

An operator that is not known to treat each token by itself gets its tensor back as [batch_size, sequence_length, ...],
and so does an output of the graph. Where there is padding it then holds the values of some token, not those that the
fused graph computes there: an operator that reads padding without regard to the mask answers differently, which gate
`logits` finds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bert_triton_client.contract import ATTENTION_MASK, ONNXRUNTIME, OPENVINO
from export.fuse import CONTRIB_DOMAIN
from export.graph import GraphEditor, attributes, has_subgraphs, inline_constants
from export.packed_layout import PLACES, Attention, Layout, attention_bias

# What these make of a token does not depend on the other tokens.
ROWWISE = frozenset(
    {
        "Add",
        "BiasGelu",
        "Cast",
        "Div",
        "Elu",
        "Erf",
        "FastGelu",
        "Gelu",
        "Identity",
        "LayerNormalization",
        "LeakyRelu",
        "Mul",
        "Neg",
        "Pow",
        "QuickGelu",
        "Relu",
        "Sigmoid",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
    }
)
ATTENTIONS = ("Attention", "MultiHeadAttention")
# Of the fused attentions' attributes, those that have a meaning in the packed form; any other is not packed.
ATTENTION_ATTRIBUTES = frozenset({"num_heads", "mask_filter_value", "scale"})
# Through these, what comes out for a place of the batch is still one number: positions are computed so from ids.
ID_ARITHMETIC = frozenset({"Add", "Cast", "CumSum", "Equal", "Identity", "Mul", "Not", "Sub"})
# A Slice that ends here or later ends with the tensor: exporters write the largest number of 32 or 64 bits.
LONGEST = 2**31 - 1


def pack(model: Any, engine: str) -> Any:
    """The packed form of the fused FP32 ``model`` for ``engine``.

    Args:
        model: an `onnx.ModelProto`; it is left as it is.
        engine: `ONNXRUNTIME` (attention is one MultiHeadAttention, and packed tensors are [tokens, ...]) or `OPENVINO`
            (attention is plain operators, which every version of OpenVINO reads and fuses by itself, packed tensors are
            [1, tokens, ...], and the number of tokens is rounded up to few sizes).

    Returns:
        A new model of the same signature. A copy of ``model`` when there is nothing to pack: no fused attention, or
        one that `attention_mask` does not mask by columns, so that padding would matter.

    Raises:
        ValueError: there is no such engine.
    """
    if engine not in (ONNXRUNTIME, OPENVINO):
        raise ValueError(f"no engine {engine}; expected {ONNXRUNTIME} or {OPENVINO}")
    packing = _Packing(inline_constants(model), engine)
    if packing.possible():
        return packing.run()
    unchanged = type(model)()
    unchanged.CopyFrom(model)
    return unchanged


def is_packed(model: Any) -> bool:
    """Whether ``model`` came out of `pack` packed; still so after `export.quantize`."""
    return any(PLACES in node.output for node in model.graph.node)


class _Packing:
    """Lays the nodes of one model down again, those between the embeddings and the answer on packed rows.

    ``rows`` has the packed tensors: {name in the fused graph: name of the same, packed}, ``widths`` the
    sizes of their last dimensions, where that had to be known. ``lookups`` has the rows of the table that packed ids
    are looked up in: {name of the ids: rows}.
    """

    def __init__(self, model: Any, engine: str) -> None:
        self.model = model
        self.engine = engine
        self.editor = GraphEditor(model)
        self.inputs = {value.name for value in model.graph.input}
        self.outputs = {value.name for value in model.graph.output}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.used = self.outputs | {name for node in model.graph.node for name in node.input}
        self.rows: dict[str, str] = {}
        self.widths: dict[str, int] = {}
        self.lookups: dict[str, int] = {}

    def possible(self) -> bool:
        """Whether there is fused attention to pack, and every fused attention is masked by columns."""
        nodes = [node for node in self.model.graph.node if node.op_type in ATTENTIONS]
        found = any(self._is_fused_attention(node) for node in nodes) and all(self._is_masked(node) for node in nodes)
        return found and not has_subgraphs(self.model)

    def run(self) -> Any:
        """The packed model."""
        self.layout = Layout(self.editor, self.engine)
        self.attention = Attention(self.layout, self.engine)
        for node in self.model.graph.node:
            self._lay_down(node)
        if self.engine == OPENVINO:
            self._refuse_rows()
        return self.editor.finish()

    def _lay_down(self, node: Any) -> None:
        if node.op_type == "EmbedLayerNormalization" and not any(name in self.used for name in node.output[1:]):
            self._embeddings(node)
        elif self._is_lookup(node):
            self.widths[node.output[0]] = self.editor.weight(node.input[0]).shape[1]
            self._lookup(node)
        elif self._is_fused_attention(node):
            self._attention(node)
        elif not any(name in self.rows for name in node.input):
            self.editor.keep(node)
        elif self._is_rowwise(node):
            self._rowwise(node)
        elif self._is_whole_slice(node):
            self._add_rows(node, [self.rows[node.input[0]]], operator="Identity")
        elif (index := self._first_token(node)) is not None:
            self.layout.take(self.rows[node.input[0]], index, node.output[0])
        elif node.op_type == "Shape" and not node.attribute and node.input[0] in self.widths:
            width = self.layout.numbers(self.widths[node.input[0]])
            self.editor.add("Concat", [self.layout.shape, width], [node.output[0]], axis=0)
        else:
            self._keep_padded(node)

    def _add_rows(self, node: Any, inputs: list[str], operator: str = "", **values: Any) -> None:
        """Lays ``node`` down on packed rows, so that its outputs are packed."""
        names = [self._name_rows(name) if name in self.used else "" for name in node.output]
        names = names[: max((place + 1 for place, name in enumerate(names) if name), default=1)]
        self.editor.add(operator or node.op_type, inputs, names, domain="" if operator else node.domain, **values)
        self._give_outputs(node)

    def _name_rows(self, name: str) -> str:
        """The name of the packed ``name``: its own, unless that is an output, which has another shape."""
        self.rows[name] = f"{name}/rows" if name in self.outputs else name
        return self.rows[name]

    def _give_outputs(self, node: Any) -> None:
        for name in node.output:
            if name in self.outputs:
                self.layout.unpack(self.rows[name], name)

    def _keep_padded(self, node: Any) -> None:
        """Lays ``node`` down as it is, its packed inputs in their own shape again."""
        kept = type(node)()
        kept.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in self.rows:
                kept.input[place] = self._padded(name)
        self.editor.keep(kept)

    def _padded(self, name: str) -> str:
        target = name if name in self.outputs else f"{name}/padded"
        return target if self.editor.has_output(target) else self.layout.unpack(self.rows[name], target)

    # Embeddings

    def _is_lookup(self, node: Any) -> bool:
        """Whether ``node`` looks up rows of a table by the ids of the tokens, or by what is computed from those."""
        if node.op_type != "Gather" or attributes(node).get("axis", 0) != 0 or not self._is_weight(node.input[0], 2):
            return False
        name = node.input[1]
        while name in self.producers and self.producers[name].op_type in ID_ARITHMETIC:
            sources = [source for source in self.producers[name].input if not self.editor.has_weight(source)]
            name = sources[0] if sources else ""
        made = self.producers.get(name)
        return name in self.inputs or (made is not None and made.op_type == "Expand")

    def _pack_ids(self, name: str) -> str:
        source = name
        while source in self.producers and self.producers[source].op_type in ("Cast", "Identity"):
            source = self.producers[source].input[0]
        return self.layout.pack_ids(name, broadcasts=source not in self.inputs)

    def _lookup(self, node: Any) -> None:
        ids, name = self._pack_ids(node.input[1]), self._name_rows(node.output[0])
        self._note_lookup(ids, node.input[0])
        self.editor.add("Gather", [node.input[0], ids], [self.layout.from_lookup(name)], axis=0)
        self.layout.lay_lookup(name)
        self._give_outputs(node)

    def _embeddings(self, node: Any) -> None:
        """EmbedLayerNormalization: token and type ids, three tables, gamma, beta, mask (not needed), position ids."""
        ids, kinds, *tables = node.input[:7]
        positions = self.editor.add("Cast", [self.layout.columns], ["packing/columns_int32"], to=6)
        if len(node.input) > 8 and node.input[8]:
            positions = self._pack_ids(node.input[8])
        packed = [self._pack_ids(name) if name else "" for name in (ids, kinds)]
        # Tables stand as ids do: of tokens, positions, types.
        for looked_up, table in zip((packed[0], positions, packed[1]), tables, strict=False):
            if looked_up:
                self._note_lookup(looked_up, table)
        name = self._name_rows(node.output[0])
        self.editor.add(
            "EmbedLayerNormalization",
            [*packed, *tables, "", positions],
            [self.layout.from_lookup(name), f"{name}/mask_index"],
            domain=CONTRIB_DOMAIN,
            **{name: value for name, value in attributes(node).items() if name != "mask_index_type"},
        )
        self.layout.lay_lookup(name)
        self._give_outputs(node)

    def _note_lookup(self, ids: str, table: str) -> None:
        rows = self.editor.weight(table).shape[0]
        self.lookups[ids] = min(rows, self.lookups.get(ids, rows))

    def _refuse_rows(self) -> None:
        """Answers NaN to each text that has an id outside its table, where OpenVINO looks up zeros and answers those.

        ONNX Runtime refuses such a call by itself.
        """
        refused = self.layout.rows_outside(self.lookups)
        nan = self.editor.constant("packing/nan", np.float32(np.nan))
        for value in self.model.graph.output:
            others = self.layout.numbers(*range(1, len(value.type.tensor_type.shape.dim)))
            by_row = self.editor.add("Unsqueeze", [refused, others], [f"{value.name}/refused"])
            self.editor.rename(value.name, f"{value.name}/computed")
            self.editor.add("Where", [by_row, nan, f"{value.name}/computed"], [value.name])

    # Rows by themselves, and the first of each text

    def _is_weight(self, name: str, dimensions: int) -> bool:
        return self.editor.has_weight(name) and self.editor.weight(name).ndim == dimensions

    def _is_rowwise(self, node: Any) -> bool:
        if node.op_type == "MatMul":
            return node.input[0] in self.rows and self._is_weight(node.input[1], 2)
        if node.op_type not in ROWWISE:
            return False
        if node.op_type.endswith("LayerNormalization") and attributes(node).get("axis", -1) not in (-1, 2):
            return False
        return all(not name or name in self.rows or self._is_same_for_every_row(name) for name in node.input)

    def _rowwise(self, node: Any) -> None:
        inputs = [self.rows.get(name, name) for name in node.input]
        values = attributes(node)
        if "axis" in values:
            values["axis"] = -1
        alone = not any(name in self.used for name in node.output[1:])
        if node.op_type == "SkipLayerNormalization" and self.engine == ONNXRUNTIME and alone:
            self._skip_layer_normalization(node, inputs, values)
        else:
            self._add_rows(node, inputs, **values)

    def _skip_layer_normalization(self, node: Any, inputs: list[str], values: dict[str, Any]) -> None:
        """The same as Add and LayerNormalization."""
        source, skip, gamma, *others = inputs
        beta, bias = (*others, "", "")[:2]
        total = self.editor.add("Add", [source, skip], [f"{node.output[0]}/sum"])
        if bias:
            total = self.editor.add("Add", [total, bias], [f"{node.output[0]}/biased"])
        name = self._name_rows(node.output[0])
        scale = [gamma, beta] if beta else [gamma]
        self.editor.add("LayerNormalization", [total, *scale], [name], axis=-1, epsilon=values.get("epsilon", 1e-12))
        self._give_outputs(node)

    def _is_same_for_every_row(self, name: str) -> bool:
        """Whether ``name`` is a constant that broadcasts over the tokens."""
        if not self.editor.has_weight(name):
            return False
        shape = self.editor.weight(name).shape
        return len(shape) <= 2 + self.layout.tokens_axis and all(size == 1 for size in shape[:-1])

    def _is_whole_slice(self, node: Any) -> bool:
        """Whether ``node`` is a Slice of everything: ``x[:]``, which exporters write before ``[:, 0]``."""
        bounds = self._bounds(node)
        return bounds is not None and all(_is_everything(bound) for bound in bounds.values())

    def _first_token(self, node: Any) -> str | None:
        """The index that takes what ``node`` takes, the first token of each text; None when it does anything else."""
        if node.op_type == "Gather" and node.input[0] in self.rows and self.editor.has_weight(node.input[1]):
            taken = self.editor.weight(node.input[1])
            if attributes(node).get("axis", 0) in (1, -2) and taken.size == 1 and taken.ndim < 2 and not taken.any():
                return self._first_column() if taken.ndim else self.layout.first
        bounds = self._bounds(node)
        if bounds is None or bounds.pop(1, None) != (0, 1) or not all(map(_is_everything, bounds.values())):
            return None
        return self._first_column()

    def _first_column(self) -> str:
        name = "packing/first_column"
        if not self.editor.has_output(name):
            self.editor.add("Unsqueeze", [self.layout.first, self.layout.numbers(1)], [name])
        return name

    def _bounds(self, node: Any) -> dict[int, tuple[int, int]] | None:
        """(start, end) by axis of a Slice of a packed tensor, constant and in steps of 1; None for anything else."""
        if node.op_type != "Slice" or node.input[0] not in self.rows or len(node.input) < 4:
            return None
        if not all(self.editor.has_weight(name) for name in node.input[1:]):
            return None
        starts, ends, axes, *steps = (self.editor.weight(name).tolist() for name in node.input[1:])
        if any(step != 1 for numbers in steps for step in numbers):
            return None
        return {axis % 3: (start, end) for start, end, axis in zip(starts, ends, axes, strict=True)}

    # Attention

    def _is_masked(self, node: Any) -> bool:
        """Whether the attention ``node`` takes `attention_mask` itself, a number a place."""
        place = 3 if node.op_type == "Attention" else 4
        name = node.input[place] if len(node.input) > place else ""
        while name in self.producers and self.producers[name].op_type in ("Cast", "Identity"):
            name = self.producers[name].input[0]
        return name == ATTENTION_MASK

    def _is_fused_attention(self, node: Any) -> bool:
        """Whether ``node`` is attention that can be laid down on packed rows."""
        if node.op_type not in ATTENTIONS or not self._is_masked(node):
            return False
        values = attributes(node)
        sizes = values.pop("qkv_hidden_sizes", None) or [0]
        if values.pop("unidirectional", 0) or set(values) - ATTENTION_ATTRIBUTES or len(set(sizes)) > 1:
            return False
        if any(name in self.used for name in node.output[1:]):
            return False
        if node.op_type == "Attention":
            return self._is_weight(node.input[1], 2) and self._is_weight(node.input[2], 1) and not any(node.input[4:])
        return self._is_weight(node.input[3], 1) and not any(node.input[5:]) and self._is_projected(node)

    def _is_projected(self, node: Any) -> bool:
        """Whether query, key and value of a MultiHeadAttention are products of as many channels each."""
        hidden = self.editor.weight(node.input[3]).size / 3
        made = [self.producers.get(name) for name in node.input[:3]]
        return all(
            one is not None
            and one.op_type == "MatMul"
            and self._is_weight(one.input[1], 2)
            and self.editor.weight(one.input[1]).shape[1] == hidden
            for one in made
        )

    def _attention(self, node: Any) -> None:
        output = node.output[0]
        fused = node.op_type == "Attention"
        value = self.editor.weight(node.input[2 if fused else 3])
        bias, hidden = self.editor.constant(attention_bias(output), value), value.size // 3
        if fused:
            width = self.editor.weight(node.input[1]).shape[0]
            parts = self.attention.project(self._as_rows(node.input[0], width), node.input[1], bias, node)
        else:
            rows = [self._as_rows(name, hidden) for name in node.input[:3]]
            parts = self.attention.separate(rows, bias, node)
        context = self.attention.compute(node, parts, bias, hidden)
        self.layout.pack_rows(context, self._name_rows(output), hidden, wide=True)
        self._give_outputs(node)

    def _as_rows(self, name: str, width: int) -> str:
        """``name`` packed: what attention reads is [batch_size, sequence_length, width] in any graph."""
        return self.rows.get(name) or self.layout.pack_rows(name, f"{name}/rows", width)


def _is_everything(bound: tuple[int, int]) -> bool:
    return bound[0] == 0 and bound[1] >= LONGEST
