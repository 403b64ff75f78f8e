"""INT8: 8-bit signed weights, a scale per output channel, and 8-bit unsigned activations, by one of several recipes.

Every product of the encoder (each MatMul with a weight and, in a graph that is not packed, the fused Attention's
projections) becomes an 8-bit product; results are FP32 again at once, so that LayerNorm, GELU, softmax and the residual
sums are untouched. The classification head, a few thousandths of the work and the most sensitive part, stays FP32.
Recipes differ in where the scale of the activations comes from:

    static      measured beforehand, one a tensor: cheapest, the same in every batch, at the mercy of outlier channels
    smoothed    static, after dividing each channel by what the weights can absorb (SmoothQuant: Xiao et al., ICML 2023)
    per-token   computed for each token as it comes: no calibration, follows outliers, the same in every batch
    dynamic     computed for each tensor as it comes (ONNX Runtime's usual way): answers depend on the rest of the batch

Products with a static scale are written as QDQ: QuantizeLinear and DequantizeLinear on the activation, DequantizeLinear
on the weight, MatMul. ONNX Runtime fuses that to MatMulIntegerToFloat, with VNNI and AMX kernels for unsigned x signed,
and OpenVINO to its own: one form for both. What scales per token, and a fused Attention, take ONNX Runtime's own
operators and run there alone (`Recipe.engines`).

The channels that smoothing divides are multiplied back into the weights. What divides them is a Mul before the product,
except behind attention, whose output is a sum of values: there it is in the weights and the bias of the value
projection, and costs nothing.

Word embeddings are stored as signed 8 bits with a scale per token: half of a small BERT's size, and more precise than
ONNX Runtime's QEmbedLayerNormalization with its one scale for the whole vocabulary. Position and type embeddings are a
hundredth of that, and stay FP32.

Measured on the demo model (MiniLM, 6 x 384, 2 labels, accuracy 0.8627) on its 2,200 held-out sentences, scales from
500 others, packed, in ONNX Runtime: what the gates of an export with each recipe said (limits: `export.gates`).
"moved" counts labels that changed with the batch, of 150. RMS is that of the logits on 500 texts. Times are the best of
69 runs of one text of 24 tokens on one core of a CPU with VNNI, packed; FP32: 9.6 ms.

    recipe              agreement  accuracy  largest change of a logit   RMS   moved   ms
    static                 0.9800    0.8564                       0.68  0.167      0  4.7
    smoothed               0.9895    0.8632                       0.36  0.080      0  4.9
    smoothed-per-token     0.9945    0.8591                       0.30  0.085      0  5.1
    per-token              0.9945    0.8618                       0.20  0.063      0  5.3
    dynamic                0.9791    0.8627                       0.70  0.146      2  4.8

Cutting the ranges off at the 64 most extreme values of a batch instead of the extremes cost 4 points of agreement: the
outliers of a BERT are what it works with.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.contract import INPUT_IDS, ONNXRUNTIME, OPENVINO
from export.calibration import Ranges
from export.errors import QualityError
from export.fuse import CONTRIB_DOMAIN
from export.graph import GraphEditor, attributes
from export.packed_layout import attention_bias, packed_ids, projections

Array = NDArray[np.float32]

STATIC, PER_TOKEN, DYNAMIC = "static", "per-token", "dynamic"
SIGNED_MAX = 127
ZERO_POINT = np.uint8(128)  # of activations that are quantised symmetrically
# A product with fewer outputs is a classifier.
MIN_OUTPUTS = 16
TINY = np.float32(1e-8)
# What word embeddings are looked up by where they are not part of EmbedLayerNormalization.
WORD_IDS = (INPUT_IDS, packed_ids(INPUT_IDS))


@dataclass(frozen=True)
class Scheme:
    """Where the scale of a product's activations comes from.

    Attributes:
        kind: `STATIC`, `PER_TOKEN` or `DYNAMIC`.
        smoothing: SmoothQuant's migration strength, from 0 (outliers stay in the activations) to 1; None is off.
    """

    kind: str
    smoothing: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How a model is quantised: a row of `RECIPES`.

    Attributes:
        name: as ``--int8-recipe`` and the manifest say it.
        scheme: of all products but the next.
        narrowing: of products with fewer outputs than inputs, the second one of each feed-forward layer: its
            activations come out of GELU and have the widest outliers.
        candidate: whether it is tried unless asked for by name.
    """

    name: str
    scheme: Scheme
    narrowing: Scheme
    candidate: bool = True

    @property
    def needs_calibration(self) -> bool:
        """Whether it takes ranges measured on calibration text."""
        return STATIC in (self.scheme.kind, self.narrowing.kind)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that run what it writes for a packed graph; a padded one runs in ONNX Runtime alone."""
        static = (self.scheme.kind, self.narrowing.kind) == (STATIC, STATIC)
        return (OPENVINO, ONNXRUNTIME) if static else (ONNXRUNTIME,)


# Cheapest first, as measured: of recipes that do equally well, the first one is taken.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("static", Scheme(STATIC), Scheme(STATIC)),
        Recipe("smoothed", Scheme(STATIC, 0.75), Scheme(STATIC, 0.75)),
        Recipe("smoothed-per-token", Scheme(STATIC, 0.5), Scheme(PER_TOKEN)),
        Recipe("per-token", Scheme(PER_TOKEN), Scheme(PER_TOKEN)),
        # Fails the gate `invariance`; here to be compared with, and to be had with --allow.
        Recipe("dynamic", Scheme(DYNAMIC), Scheme(DYNAMIC), candidate=False),
    )
}


def quantize(model: Any, recipe: Recipe, ranges: Ranges | None = None) -> Any:
    """The INT8 form of the fused FP32 ``model``.

    Args:
        model: an `onnx.ModelProto`; it is left as it is.
        recipe: a row of `RECIPES`.
        ranges: what `calibration.measure` found, for recipes that need it.

    Raises:
        QualityError: the graph has no product to quantise.
    """
    editor = GraphEditor(model)
    targets = {node.output[0]: node for node in products(model)}
    if not targets:
        raise QualityError(
            "int8 is not published: the graph has no product with a weight matrix to quantise; leave int8 out"
        )
    schemes = {}
    for output, node in targets.items():
        inputs, outputs = editor.weight(node.input[1]).shape
        schemes[output] = recipe.narrowing if inputs > outputs else recipe.scheme
    smooth, ranges = _smooth_values(model, editor, schemes, ranges)
    for node in model.graph.node:
        if node.output[0] in targets:
            _Product(editor, node, schemes[node.output[0]], ranges, smooth=node.input[0] in smooth).lay_down()
        elif node.op_type == "EmbedLayerNormalization":
            _quantize_fused_embeddings(editor, node)
        elif node.op_type == "Gather" and node.input[1] in WORD_IDS and _is_matrix(editor, node.input[0]):
            _gather_quantized(editor, node.input[0], node.input[1], node.output[0])
        else:
            editor.keep(node)
    return editor.finish()


def _smooth_values(
    model: Any, editor: GraphEditor, schemes: dict[str, Scheme], ranges: Ranges | None
) -> tuple[set[str], Ranges | None]:
    """Smooths what comes out of attention by the weights that make its values, where nothing else reads either.

    Returns:
        The tensors that are smooth now, and ``ranges`` with theirs adapted.
    """
    smooth: set[str] = set()
    if ranges is None:
        return smooth, ranges
    readers = Counter(name for node in model.graph.node for name in node.input)
    adapted = dict(ranges)
    makers = {node.output[0]: node for node in products(model)}
    for node in makers.values():
        source, strength = node.input[0], schemes[node.output[0]].smoothing
        made = _value_weights(source, makers)
        if strength is None or made is None or any(readers[name] != 1 for name in (source, node.input[1], *made)):
            continue
        weight, (low, high) = editor.weight(node.input[1]), adapted[source]
        factors = smoothing_factors(low, high, weight, strength)
        divisors = np.concatenate([np.ones(2 * len(factors), dtype=np.float32), factors])  # of the values alone
        for name in made:
            editor.replace(name, editor.weight(name) / divisors)
        editor.replace(node.input[1], weight * factors[:, np.newaxis])
        adapted[source] = low / factors, high / factors
        smooth.add(source)
    return smooth, adapted


def _value_weights(output: str, makers: dict[str, Any]) -> tuple[str, str] | None:
    """The weight and the bias whose last third makes the values of the attention that puts out ``output``."""
    if projections(output) in makers:
        return makers[projections(output)].input[1], attention_bias(output)
    node = makers.get(output)
    return (node.input[1], node.input[2]) if node is not None and node.op_type == "Attention" else None


def products(model: Any) -> list[Any]:
    """The nodes of ``model`` that `quantize` replaces: fused Attention and MatMul, with a constant weight matrix."""
    weights = {weight.name: weight.dims for weight in model.graph.initializer if len(weight.dims) == 2}
    return [node for node in model.graph.node if _is_product(node, weights)]


def _is_product(node: Any, weights: dict[str, Any]) -> bool:
    if len(node.input) < 2 or node.input[1] not in weights or weights[node.input[1]][1] < MIN_OUTPUTS:
        return False
    if node.op_type == "Attention":
        # What QAttention and MultiHeadAttention have no equal for; no BERT needs it.
        plain = {"num_heads", "unidirectional", "mask_filter_value"}
        return {attribute.name for attribute in node.attribute} <= plain and not any(node.input[4:])
    return node.op_type == "MatMul"


def quantize_weight(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Signed 8-bit values and a scale per column (output channel); symmetric, so that zero stays zero."""
    scale = np.maximum(np.abs(weight).max(axis=0) / SIGNED_MAX, TINY).astype(np.float32)
    return np.clip(np.rint(weight / scale), -SIGNED_MAX, SIGNED_MAX).astype(np.int8), scale


class _Product:
    """Lays down the nodes that replace one product."""

    def __init__(
        self, editor: GraphEditor, node: Any, scheme: Scheme, ranges: Ranges | None, *, smooth: bool = False
    ) -> None:
        self.editor = editor
        self.node = node
        self.scheme = scheme
        self.input = node.input[0]
        self.output = node.output[0]
        weight = editor.weight(node.input[1]).astype(np.float32)
        if scheme.kind == STATIC:
            if ranges is None:
                raise ValueError("a static recipe takes ranges measured on calibration text")
            low, high = ranges[self.input]
            if scheme.smoothing is not None and not smooth:
                factors = smoothing_factors(low, high, weight, scheme.smoothing)
                weight, low, high = weight * factors[:, np.newaxis], low / factors, high / factors
                reciprocal = editor.constant(f"{self.output}/smoothing", (1 / factors).astype(np.float32))
                self.input = editor.add("Mul", [self.input, reciprocal], [f"{self.output}/smoothed"])
            self.scale, self.zero_point = affine(float(low.min()), float(high.max()))
        values, scales = quantize_weight(weight)
        name = f"{self.output}/weight"
        self.weight = editor.constant(f"{name}_quantized", values)
        self.weight_scale = editor.constant(f"{name}_scale", scales)
        self.weight_zero_point = editor.constant(f"{name}_zero_point", np.zeros(len(scales), dtype=np.int8))
        self.outputs = values.shape[1]

    def lay_down(self) -> None:
        """Adds the nodes."""
        {STATIC: self._static, PER_TOKEN: self._per_token, DYNAMIC: self._dynamic}[self.scheme.kind]()

    def _static(self) -> None:
        scale = self.editor.constant(f"{self.output}/scale", np.float32(self.scale))
        zero_point = self.editor.constant(f"{self.output}/zero_point", np.uint8(self.zero_point))
        quantized = self.editor.add("QuantizeLinear", [self.input, scale, zero_point], [f"{self.output}/quantized"])
        if self.node.op_type == "Attention":
            self._attention(quantized, scale, zero_point)
            return
        rounded = self.editor.add("DequantizeLinear", [quantized, scale, zero_point], [f"{self.output}/rounded"])
        inputs = [self.weight, self.weight_scale, self.weight_zero_point]
        weight = self.editor.add("DequantizeLinear", inputs, [f"{self.output}/weight"], axis=1)
        self.editor.add("MatMul", [rounded, weight], [self.output])

    def _dynamic(self) -> None:
        if self.node.op_type == "Attention":
            names = [f"{self.output}/{what}" for what in ("quantized", "scale", "zero_point")]
            self.editor.add("DynamicQuantizeLinear", [self.input], names)
            self._attention(*names)
        else:
            inputs = [self.input, self.weight, self.weight_scale, self.weight_zero_point]
            self.editor.add("DynamicQuantizeMatMul", inputs, [self.output], domain=CONTRIB_DOMAIN)

    def _per_token(self) -> None:
        one = self.editor.constant("per_token/one", np.float32(1))
        zero_point = self.editor.constant("per_token/zero_point", ZERO_POINT)
        quantized, row_scale = self._rows(one, zero_point)
        product = self._matmul(quantized, one, zero_point, f"{self.output}/per_token")
        if self.node.op_type != "Attention":
            self.editor.add("Mul", [product, row_scale], [self.output])
            return
        # QAttention takes one scale a tensor, so the projections leave the fused node and the rest of it stays.
        scaled = self.editor.add("Mul", [product, row_scale], [f"{self.output}/projections"])
        hidden = self.outputs // 3
        sizes = self.editor.constant(f"per_token/split_{hidden}", np.array([hidden] * 3, dtype=np.int64))
        parts = [f"{self.output}/{part}" for part in ("query", "key", "value")]
        self.editor.add("Split", [scaled, sizes], parts, axis=-1)
        inputs = [*parts, *self.node.input[2:4]]
        self.editor.add("MultiHeadAttention", inputs, [self.output], domain=CONTRIB_DOMAIN, **attributes(self.node))

    def _rows(self, one: str, zero_point: str) -> tuple[str, str]:
        """The input with each row scaled to -127..127 and rounded, and the scale of each row."""
        quantized, scale = f"{self.input}/per_token_quantized", f"{self.input}/per_token_scale"
        if not self.editor.has_output(quantized):
            add, constant = self.editor.add, self.editor.constant
            magnitude = add("Abs", [self.input], [f"{self.input}/magnitude"])
            largest = self._largest(magnitude)
            # A row of zeros must not be divided by zero.
            floored = add("Max", [largest, constant("per_token/tiny", TINY)], [f"{self.input}/largest_floored"])
            add("Mul", [floored, constant("per_token/step", np.float32(1 / SIGNED_MAX))], [scale])
            unit = add("Div", [self.input, scale], [f"{self.input}/per_token_unit"])
            add("QuantizeLinear", [unit, one, zero_point], [quantized])
        return quantized, scale

    def _largest(self, magnitude: str) -> str:
        output = [f"{self.input}/largest"]
        if self.editor.opset < 18:  # from there on the axes are an input
            return self.editor.add("ReduceMax", [magnitude], output, axes=[-1], keepdims=1)
        axes = self.editor.constant("per_token/axes", np.array([-1], dtype=np.int64))
        return self.editor.add("ReduceMax", [magnitude, axes], output, keepdims=1)

    def _matmul(self, quantized: str, scale: str, zero_point: str, output: str) -> str:
        inputs = [quantized, self.weight, scale, self.weight_scale, zero_point, self.weight_zero_point]
        return self.editor.add("MatMulIntegerToFloat", inputs, [output], domain=CONTRIB_DOMAIN)

    def _attention(self, quantized: str, scale: str, zero_point: str) -> None:
        bias, mask = self.node.input[2], self.node.input[3] if len(self.node.input) > 3 else ""
        inputs = [quantized, self.weight, bias, scale, self.weight_scale, mask, zero_point, self.weight_zero_point]
        self.editor.add("QAttention", inputs, [self.output], domain=CONTRIB_DOMAIN, **attributes(self.node))


def smoothing_factors(low: Array, high: Array, weight: Array, strength: float) -> Array:
    """SmoothQuant's factor per channel, max|x|^a / max|w|^(1-a), around a geometric mean of 1."""
    activations = np.maximum(np.maximum(-low, high), 1e-5)
    weights = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    factors = activations**strength / weights ** (1 - strength)
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float32)


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of unsigned 8 bits for the range ``low`` to ``high``; zero is one of its steps."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, float(TINY))
    return scale, round(-low / scale)


def _quantize_fused_embeddings(editor: GraphEditor, node: Any) -> None:
    """Takes EmbedLayerNormalization apart, with the word embeddings quantised.

    Its inputs: input_ids, segment_ids, word, position and segment embeddings, gamma, beta, mask, position_ids.
    """
    ids, segments, words, positions, segment_table, gamma, beta = node.input[:7]
    if not _is_matrix(editor, words):
        editor.keep(node)
        return
    output = node.output[0]
    total = _gather_quantized(editor, words, ids, f"{output}/words")
    rows = _position_rows(editor, positions, ids, node.input[8] if len(node.input) > 8 else "", output)
    total = editor.add("Add", [total, rows], [f"{output}/words_positions"])
    if segment_table:
        kinds = editor.add("Gather", [segment_table, segments], [f"{output}/segments"])
        total = editor.add("Add", [total, kinds], [f"{output}/words_positions_segments"])
    epsilon = attributes(node).get("epsilon", 1e-12)
    editor.add("LayerNormalization", [total, gamma, beta], [output], axis=-1, epsilon=epsilon)


def _position_rows(editor: GraphEditor, positions: str, ids: str, position_ids: str, output: str) -> str:
    """The position embeddings: those of ``position_ids``, or the first ones, as many as there are tokens."""
    if position_ids:
        return editor.add("Gather", [positions, position_ids], [f"{output}/positions"])
    start = editor.constant("embeddings/start", np.array([0], dtype=np.int64))
    axis = editor.constant("embeddings/axis", np.array([1], dtype=np.int64))
    shape = editor.add("Shape", [ids], [f"{output}/shape"])
    length = editor.add("Gather", [shape, axis], [f"{output}/length"])
    return editor.add("Slice", [positions, start, length, start], [f"{output}/positions"])


def _gather_quantized(editor: GraphEditor, table: str, ids: str, output: str) -> str:
    """Looks ``ids`` up in ``table``, stored as 8 bits with a scale per row."""
    from onnx import TensorProto

    values, scales = quantize_weight(editor.weight(table).astype(np.float32).T)
    quantized = editor.constant(f"{table}/quantized", np.ascontiguousarray(values.T))
    scale = editor.constant(f"{table}/scale", scales[:, np.newaxis])
    found = editor.add("Gather", [quantized, ids], [f"{output}/quantized"])
    number = editor.add("Cast", [found], [f"{output}/unscaled"], to=TensorProto.FLOAT)
    steps = editor.add("Gather", [scale, ids], [f"{output}/scale"])
    return editor.add("Mul", [number, steps], [output])


def _is_matrix(editor: GraphEditor, name: str) -> bool:
    return editor.has_weight(name) and editor.weight(name).ndim == 2 and editor.weight(name).dtype == np.float32
