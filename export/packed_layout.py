"""Where the tokens of a packed graph are, and its attention: the parts of `export.pack` that differ by engine.

Layout       which tokens are kept; which token each place of the batch reads; rows by sequence, and back
Attention    attention over rows by sequence: one MultiHeadAttention, or plain operators
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.contract import ATTENTION_MASK, ONNXRUNTIME, OPENVINO
from export.fuse import CONTRIB_DOMAIN
from export.graph import GraphEditor, attributes

PLACES = "packing/places"
MASK_FILTER_VALUE = -10000.0  # of ONNX Runtime's attention operators, where the attribute is absent
# OpenVINO 2024 and 2025 want three dimensions for SkipLayerNormalization. In ONNX Runtime that operator takes several
# times as long as Add and LayerNormalization, of which it is made again wherever they have three dimensions: so two.
TOKENS_AXIS = {ONNXRUNTIME: 0, OPENVINO: 1}
# OpenVINO keeps compiled kernels for every number of tokens that it has met, 3 to 6 MB each for a BERT-base: so for
# OpenVINO the number is rounded up, to a multiple of 8 up to 128 and then to 8 sizes an octave (144, 160, ... 256,
# 288, ...): beyond 128 at most an eighth of the rows is for nothing. The table of what is missing ends at 64 texts of
# 512 tokens, where a layer's activations alone are 400 MB; more tokens than that are run as they are.
SMALLEST_STEP = 8
TABLE_END = 64 * 512
# OpenVINO's attention treats the columns after the last full 16 otherwise: differences of 1e-7, which flip a rounding
# step of INT8 now and then, so that an answer moved by up to 0.0095 with the length of its batch (14 of 600 texts).
# With full sixteens it is the same to the last bit in every batch.
COLUMNS_STEP = 16


def packed_ids(name: str) -> str:
    """The name of the ids ``name`` in a packed graph."""
    return f"{name}/tokens"


def projections(output: str) -> str:
    """The name of the projections, query, key and value side by side, of the attention that puts out ``output``."""
    return f"{output}/projections"


def attention_bias(output: str) -> str:
    """The name of the constant that is added to `projections`."""
    return f"{output}/bias"


def missing_tokens(end: int) -> NDArray[np.int64]:
    """How many tokens each number of tokens, 0 to ``end``, is short of one of the sizes that OpenVINO sees."""
    tokens = np.arange(end + 1)
    octaves = np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
    steps = np.maximum(SMALLEST_STEP, 2 ** np.maximum(octaves - 4, 0))
    return -tokens % steps


class Layout:
    """The index tensors of a packed graph, laid down by ``editor`` on construction.

    Attributes:
        tokens_axis: the axis of the tokens in packed tensors: [tokens, ...] (0) or [1, tokens, ...] (1).
        places: int64[tokens] or int64[1, tokens], where each token stands in [batch_size * sequence_length].
        columns: int64[1, tokens], the column it stands in.
        index: int64[batch_size, sequence_length], the token that each place reads; where there is none, the one before.
        first: int64[batch_size], the token in each row's first column.
        shape: int64[2], batch size and sequence length.
        real: bool[batch_size, sequence_length], the mask.
        kept: bool[batch_size, sequence_length], the places that are tokens here: the mask, and rows kept whole.
        wide_index: `index` with the columns that attention sees: for OpenVINO a multiple of 16, the last ones masked.
        wide_places: where each token stands among those.
        missing_columns: int64[1], how many columns attention sees beyond ``sequence_length``; "" for ONNX Runtime.
    """

    def __init__(self, editor: GraphEditor, engine: str) -> None:
        self.editor = editor
        self.tokens_axis = TOKENS_AXIS[engine]
        add = editor.add
        self.real = add("Greater", [ATTENTION_MASK, self.number(0)], ["packing/real"])
        begins = add("Gather", [self.real, self.numbers(0)], ["packing/begins"], axis=1)
        self.kept = add("Or", [self.real, add("Not", [begins], ["packing/whole"])], ["packing/kept"])
        self.shape = add("Shape", [ATTENTION_MASK], ["packing/shape"])
        flat = add("Reshape", [self.kept, self.numbers(-1)], ["packing/kept_flat"])
        ones = add("Cast", [flat], ["packing/ones"], to=7)  # int64
        counted = add("CumSum", [ones, self.number(0)], ["packing/counted"])
        before = add("Sub", [counted, self.number(1)], ["packing/index_flat"])
        self.index = add("Reshape", [before, self.shape], ["packing/index"])
        self.first = add("Gather", [self.index, self.number(0)], ["packing/first"], axis=1)
        row = add("NonZero", [flat], [PLACES])  # [1, tokens]
        if engine == OPENVINO:
            row = self._rounded(row)
        length = add("Gather", [self.shape, self.numbers(1)], ["packing/length"])
        self.columns = add("Mod", [row, length], ["packing/columns"])
        self._row = row
        self.places = row if self.tokens_axis else self.editor.add("Squeeze", [row, self.numbers(0)], ["packing/flat"])
        self.wide_index, self.wide_places, self.missing_columns = self.index, self.places, ""
        if engine == OPENVINO:
            self._widen(length)

    def _widen(self, length: str) -> None:
        add = self.editor.add
        short = add("Sub", [self.numbers(0), length], ["packing/minus_length"])
        self.missing_columns = add("Mod", [short, self.numbers(COLUMNS_STEP)], ["packing/missing_columns"])
        self.wide_index = self.widened(self.index, self.number(0), "packing/wide_index")
        rows = add("Div", [self.places, length], ["packing/rows"])
        shift = add("Mul", [rows, self.missing_columns], ["packing/shift"])
        self.wide_places = add("Add", [self.places, shift], ["packing/wide_places"])

    def widened(self, source: str, value: str, target: str) -> str:
        """``source`` [batch_size, sequence_length] with the other columns that attention sees, full of ``value``."""
        if not self.missing_columns:
            return source
        pads = self.editor.add("Concat", [self.numbers(0, 0, 0), self.missing_columns], [f"{target}/pads"], axis=0)
        return self.editor.add("Pad", [source, pads, value], [target])

    def number(self, value: int) -> str:
        """The constant ``value``, int64[]."""
        return self.editor.constant(f"packing/number_{value}", np.array(value, dtype=np.int64))

    def numbers(self, *values: int) -> str:
        """The constant ``values``, int64[n]."""
        name = "packing/numbers_" + "_".join(map(str, values))
        return self.editor.constant(name, np.array(values, dtype=np.int64))

    def _rounded(self, places: str) -> str:
        """``places`` with the first one, always a token, repeated until there are as many as one of few sizes."""
        add, constant = self.editor.add, self.editor.constant
        shape = add("Shape", [places], ["packing/places_shape"])
        tokens = add("Gather", [shape, self.numbers(1)], ["packing/tokens"])
        table = constant("packing/missing_table", missing_tokens(TABLE_END))
        entry = add("Min", [tokens, self.number(TABLE_END)], ["packing/table_entry"])
        missing = add("Gather", [table, entry], ["packing/missing"])
        pads = add("Concat", [self.numbers(0, 0, 0), missing], ["packing/pads"], axis=0)
        return add("Pad", [places, pads, self.number(0)], ["packing/places_rounded"])

    def pack_ids(self, name: str, *, broadcasts: bool) -> str:
        """The numbers ``name``, int[batch_size, sequence_length], or what ``broadcasts`` to that, as [1, tokens].

        What is looked up by them is [1, tokens, ...] then: `from_lookup`.
        """
        target = packed_ids(name)
        if not self.editor.has_output(target):
            full = self.editor.add("Expand", [name, self.shape], [f"{name}/full"]) if broadcasts else name
            flat = self.editor.add("Reshape", [full, self.numbers(-1)], [f"{name}/flat"])
            self.editor.add("Gather", [flat, self._row], [target], axis=0)
        return target

    def rows_outside(self, lookups: Mapping[str, int]) -> str:
        """bool[batch_size]: whether any token of a row has a number outside its table.

        Args:
            lookups: {name of packed numbers: rows of the table that they are looked up in}.
        """
        add = self.editor.add
        outside = ""
        for name, rows in lookups.items():
            numbers = add("Cast", [name], [f"{name}/looked_up"], to=7)  # int64
            below = add("Less", [numbers, self.number(0)], [f"{name}/below"])
            beyond = add(
                "Or", [below, add("Less", [self.number(rows - 1), numbers], [f"{name}/above"])], [f"{name}/outside"]
            )
            outside = add("Or", [outside, beyond], [f"{name}/outside_so_far"]) if outside else beyond
        flat = add(
            "Reshape", [add("Cast", [outside], ["packing/outside"], to=6), self.numbers(-1)], ["packing/outside_flat"]
        )
        by_place = add("Gather", [flat, self.index], ["packing/outside_by_place"], axis=0)
        kept = add("Mul", [by_place, add("Cast", [self.kept], ["packing/kept_int32"], to=6)], ["packing/outside_kept"])
        most = add("ReduceMax", [kept], ["packing/outside_of_row"], axes=[1], keepdims=0)
        return add("Cast", [most], ["packing/refused"], to=9)  # bool

    def from_lookup(self, target: str) -> str:
        """The name for [1, tokens, ...] that `lay_lookup` makes ``target`` from."""
        return target if self.tokens_axis else f"{target}/lookup"

    def lay_lookup(self, target: str) -> None:
        """Makes the packed ``target`` of what `from_lookup` named."""
        if not self.tokens_axis:
            self.editor.add("Squeeze", [self.from_lookup(target), self.numbers(0)], [target])

    def pack_rows(self, source: str, target: str, width: int, *, wide: bool = False) -> str:
        """``source``, [batch_size, sequence_length, ...], ``width`` a place, as the packed ``target``.

        Where it is ``wide``, it has the columns of attention.
        """
        flat = self.editor.add("Reshape", [source, self.numbers(-1, width)], [f"{target}/by_place"])
        return self.editor.add("Gather", [flat, self.wide_places if wide else self.places], [target], axis=0)

    def unpack(self, source: str, target: str) -> str:
        """The packed ``source`` as ``target`` [batch_size, sequence_length, ...]."""
        return self.take(source, self.index, target)

    def take(self, source: str, index: str, target: str) -> str:
        """The tokens ``index`` of the packed ``source`` as ``target`` [shape of index, ...]."""
        rows = source
        if self.tokens_axis:
            rows = self.editor.add("Squeeze", [source, self.numbers(0)], [f"{target}/squeezed"])
        return self.editor.add("Gather", [rows, index], [target], axis=0)


class Attention:
    """Attention over query, key and value by sequence, in the form of one engine."""

    def __init__(self, layout: Layout, engine: str) -> None:
        self.layout = layout
        self.editor = layout.editor
        # OpenVINO adds a bias within the product before; MultiHeadAttention while it lays its inputs out by head.
        self.bias_in_product = engine == OPENVINO
        add, number = self.editor.add, layout.number
        # Projections are [tokens x 3, hidden_size]: query, key and value of a token stand one after another.
        query = add("Mul", [layout.wide_index, number(3)], ["packing/query"])
        key = add("Add", [query, number(1)], ["packing/key"])
        self.thirds = (query, key, add("Add", [query, number(2)], ["packing/value"]))

    def project(self, source: str, weight: str, bias: str, node: Any) -> list[str]:
        """Query, key and value of ``source``, each [batch_size, sequence_length, hidden_size], by one product.

        For OpenVINO the query comes scaled, by its weights: a Mul between its layout by head and the product with the
        keys keeps OpenVINO from fusing the two (the whole attention took a tenth longer).
        """
        output, hidden = node.output[0], self.editor.weight(weight).shape[1] // 3
        if self.bias_in_product:
            scales = np.ones(3 * hidden, dtype=np.float32)
            scales[:hidden] = _scale(node, hidden)
            weight = self.editor.constant(f"{output}/weight", self.editor.weight(weight) * scales)
            self.editor.replace(bias, self.editor.weight(bias) * scales)
        projected = self.editor.add("MatMul", [source, weight], [projections(output)])
        if self.bias_in_product:
            projected = self.editor.add("Add", [projected, bias], [f"{output}/projections_biased"])
        thirds = self.editor.add("Reshape", [projected, self.layout.numbers(-1, hidden)], [f"{output}/thirds"])
        return [
            self.editor.add("Gather", [thirds, index], [f"{output}/{part}"], axis=0)
            for part, index in zip(("query", "key", "value"), self.thirds, strict=True)
        ]

    def separate(self, rows: Sequence[str], bias: str, node: Any) -> list[str]:
        """The same from three packed tensors, ``rows``."""
        parts, output = [], node.output[0]
        thirds = np.split(self.editor.weight(bias), 3)
        for part, name, third in zip(("query", "key", "value"), rows, thirds, strict=True):
            biased = name
            if self.bias_in_product:
                constant = self.editor.constant(f"{output}/{part}_bias", third)
                biased = self.editor.add("Add", [name, constant], [f"{output}/{part}_biased"])
                if part == "query":
                    scale = self.editor.constant(f"{output}/scale", np.float32(_scale(node, third.size)))
                    biased = self.editor.add("Mul", [biased, scale], [f"{output}/query_scaled"])
            parts.append(self.layout.take(biased, self.layout.wide_index, f"{output}/{part}"))
        return parts

    def compute(self, node: Any, parts: list[str], bias: str, hidden: int) -> str:
        """What the attention ``node`` makes of ``parts``, [batch_size, sequence_length, ...]: ``hidden`` a place."""
        return self._plain(node, parts, hidden) if self.bias_in_product else self._fused(node, parts, bias)

    def _fused(self, node: Any, parts: list[str], bias: str) -> str:
        output = node.output[0]
        if not self.editor.has_output("packing/mask"):
            self.editor.add("Cast", [self.layout.real], ["packing/mask"], to=6)  # int32
        inputs = [*parts, bias, "packing/mask"]
        values = {name: value for name, value in attributes(node).items() if name != "qkv_hidden_sizes"}
        return self.editor.add("MultiHeadAttention", inputs, [f"{output}/context"], domain=CONTRIB_DOMAIN, **values)

    def _plain(self, node: Any, parts: list[str], hidden: int) -> str:
        add, output = self.editor.add, node.output[0]
        values = attributes(node)
        heads = int(values["num_heads"])
        by_head = self.layout.numbers(0, 0, heads, hidden // heads)
        layouts = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        query, key, value = (
            add(
                "Transpose",
                [add("Reshape", [name, by_head], [f"{name}_by_head"])],
                [f"{name}_heads"],
                perm=layouts[part],
            )
            for part, name in zip(layouts, parts, strict=True)
        )
        scores = add("MatMul", [query, key], [f"{output}/scores"])
        masked = add(
            "Add",
            [scores, self._penalty(float(values.get("mask_filter_value", MASK_FILTER_VALUE)))],
            [f"{output}/masked"],
        )
        probabilities = add("Softmax", [masked], [f"{output}/probabilities"], axis=-1)
        context = add("MatMul", [probabilities, value], [f"{output}/context_heads"])
        return add("Transpose", [context], [f"{output}/context"], perm=[0, 2, 1, 3])

    def _penalty(self, lowest: float) -> str:
        """What is added to the scores, float32[batch_size, 1, 1, sequence_length]: ``lowest`` where no token is."""
        target = f"packing/penalty_{lowest}"
        if not self.editor.has_output(target):
            zero = self.editor.constant("packing/no_penalty", np.float32(0))
            most = self.editor.constant(f"packing/lowest_{lowest}", np.float32(lowest))
            chosen = self.editor.add("Where", [self.layout.real, zero, most], [f"{target}/by_place"])
            # A row of only padding attends to all its places alike, as in the padded graph, and to none beyond them.
            beyond = self.editor.constant("packing/beyond", np.float32(-np.inf))
            chosen = self.layout.widened(chosen, beyond, f"{target}/by_column")
            self.editor.add("Unsqueeze", [chosen, self.layout.numbers(1, 2)], [target])
        return target


def _scale(node: Any, hidden: int) -> float:
    """What the attention ``node`` multiplies its scores with: 1 / sqrt(head size) where it does not say."""
    values = attributes(node)
    return float(values.get("scale", 0.0)) or (hidden // int(values["num_heads"])) ** -0.5
