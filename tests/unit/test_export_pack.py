"""Packed graphs answer as the fused graph they were made from, whatever the mask, and keep what cannot be packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bert_triton_client.contract import ONNXRUNTIME, OPENVINO
from export.calibration import measure
from export.engines import ENGINES as ENGINE_TABLE
from export.evaluation import TokenisedTexts, onnx_session
from export.fuse import count_fused, node_counts
from export.graph import describe, inline_constants
from export.pack import is_packed, pack
from export.packed_layout import TABLE_END, missing_tokens
from export.quantize import RECIPES, products, quantize

HIDDEN, WIDE, HEADS, LONGEST, VOCABULARY = 32, 64, 4, 48, 60
ENGINES = (ONNXRUNTIME, OPENVINO)
LOWEST = float(np.finfo(np.float32).min)
Array = NDArray[Any]
Nodes = list[Any]


def weights() -> dict[str, Array]:
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return generator.normal(0, 0.3, size=shape).astype(np.float32)

    numbers: dict[str, Any] = {
        "zero": 0,
        "one": 1,
        "zeros": [0],
        "ones": [1],
        "twos": [2],
        "end": [2**63 - 1],
        "both": [0, 1],
        "bounds": [2**31 - 1, 1],
    }
    return {
        "words": normal(VOCABULARY, HIDDEN),
        "positions": normal(LONGEST, HIDDEN),
        "kinds": normal(2, HIDDEN),
        "qkv": normal(HIDDEN, 3 * HIDDEN),
        "qkv_bias": normal(3 * HIDDEN),
        "out": normal(HIDDEN, HIDDEN),
        "up": normal(HIDDEN, WIDE),
        "up_bias": normal(WIDE),
        "down": normal(WIDE, HIDDEN),
        "gamma": 1 + normal(HIDDEN),
        "beta": normal(HIDDEN),
        "head": normal(HIDDEN, 2),
        "position_rows": normal(1, LONGEST, HIDDEN),
        "two_zeros": np.array([0, 0], dtype=np.int64),
    } | {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}


def node(operator: str, inputs: str, outputs: str, **values: Any) -> Any:
    contrib = {"Attention", "MultiHeadAttention", "SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization"}
    names = ["" if name == "-" else name for name in inputs.split()]
    domain = "com.microsoft" if operator in contrib else ""
    return helper.make_node(operator, names, outputs.split(), domain=domain, **values)


EMBEDDINGS = [
    node("Cast", "input_ids", "ids", to=6),
    node("Cast", "token_type_ids", "types", to=6),
    node("EmbedLayerNormalization", "ids types words positions kinds gamma beta", "x unused", epsilon=1e-12),
]
MASK = node("Cast", "attention_mask", "mask", to=6)
ATTENTION = node("Attention", "x qkv qkv_bias mask", "a", num_heads=HEADS, mask_filter_value=LOWEST)
LAYER = [
    node("MatMul", "a out", "o"),
    node("SkipLayerNormalization", "o x gamma beta beta", "n", epsilon=1e-12),
    node("MatMul", "n up", "u"),
    node("BiasGelu", "u up_bias", "g"),
    node("MatMul", "g down", "d"),
    node("SkipLayerNormalization", "d n gamma beta beta", "y", epsilon=1e-12),
]
TAKE_FIRST = [node("Gather", "y zero", "f", axis=1), node("MatMul", "f head", "logits")]
BERT = [*EMBEDDINGS, MASK, ATTENTION, *LAYER, *TAKE_FIRST]


def graph(nodes: Nodes, outputs: tuple[str, ...] = ("logits",)) -> Any:
    names = ("input_ids", "attention_mask", "token_type_ids")
    values = weights()
    shapes: dict[str, list[str | int]] = {"logits": ["batch_size", 2]}
    built = helper.make_graph(
        nodes,
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in names],
        [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, shapes.get(name, ["batch_size", "sequence_length", HIDDEN])
            )
            for name in outputs
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(built, opset_imports=opsets, ir_version=8)


def mask_of(*lengths: int) -> Array:
    return (np.arange(max(lengths)) < np.array(lengths)[:, np.newaxis]).astype(np.int64)


def feed(mask: Array) -> dict[str, Array]:
    generator = np.random.default_rng(1)
    ids = generator.integers(3, VOCABULARY, size=mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


def holes() -> Array:
    mask = mask_of(9, 6, 9)
    mask[0, 4] = mask[2, 1:5] = 0
    return mask


MASKS: dict[str, Callable[[], Array]] = {
    "one text": lambda: mask_of(11),
    "one token": lambda: mask_of(1),
    "64 texts": lambda: mask_of(*np.random.default_rng(2).integers(1, 24, size=64)),
    "all lengths": lambda: mask_of(*range(1, LONGEST + 1)),
    "equal lengths": lambda: mask_of(*[17] * 5),
    "only padding among others": lambda: mask_of(9, 0, 4),
    "nothing but padding": lambda: np.zeros((2, 5), dtype=np.int64),
    "padding on the left": lambda: np.ascontiguousarray(mask_of(9, 4, 7)[:, ::-1]),
    "holes": holes,
    "holes and padding on the left": lambda: np.ascontiguousarray(holes()[:, ::-1]),
}


def run(model: Any, values: dict[str, Array], outputs: tuple[str, ...] = ("logits",)) -> list[Array]:
    taken = {value.name for value in model.graph.input}
    session = onnx_session(model.SerializeToString(), 1)
    found = session.run(list(outputs), {name: value for name, value in values.items() if name in taken})
    return [np.array(each) for each in found]


@pytest.fixture(scope="module")
def model() -> Any:
    return graph(BERT)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mask", MASKS)
def test_answers_are_the_fused_graphs(model: Any, engine: str, mask: str) -> None:
    values = feed(MASKS[mask]())
    packed = pack(model, engine)
    onnx.checker.check_model(packed)
    np.testing.assert_allclose(run(packed, values)[0], run(model, values)[0], atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_of_padding_changes_no_other_answer(model: Any, engine: str) -> None:
    packed = pack(model, engine)
    mask = mask_of(9, 9, 4)
    with_text = run(packed, feed(mask))[0]
    mask[1] = 0
    without = run(packed, feed(mask) | {"input_ids": feed(mask_of(9, 9, 4))["input_ids"]})[0]
    np.testing.assert_allclose(without[[0, 2]], with_text[[0, 2]], atol=2e-6)


def tokens(model: Any, mask: Array) -> int:
    probed = type(model)()
    probed.CopyFrom(model)
    probed.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    rows = run(probed, feed(mask), ("y",))[0]
    assert rows.size == rows.shape[-2] * HIDDEN
    return int(rows.shape[-2])


def test_what_runs_is_the_tokens(model: Any) -> None:
    assert tokens(pack(model, ONNXRUNTIME), mask_of(40, 3, 7, 1)) == 51


def test_openvino_sees_few_sizes(model: Any) -> None:
    """Multiples of 8 up to 128, then 8 sizes an octave."""
    packed = pack(model, OPENVINO)
    lengths = {1: 8, 8: 8, 9: 16, 128: 128, 129: 144, 250: 256, 257: 288, 1000: 1024, 1025: 1152}
    found = {
        count: tokens(packed, mask_of(*[40] * (count // 40), *[count % 40] * bool(count % 40))) for count in lengths
    }
    assert found == lengths


def test_sizes_that_openvino_sees() -> None:
    missing = missing_tokens(TABLE_END)
    tokens = np.arange(1, TABLE_END + 1)
    sizes = tokens + missing[1:]
    assert missing.min() == 0
    assert not (sizes % 8).any()
    assert (sizes[tokens > 128] / tokens[tokens > 128] <= 1.125).all()
    assert len(set(sizes)) == 16 + 8 * 8  # up to 128, and in the 8 octaves to 32,768


def test_more_tokens_than_the_table_has(model: Any) -> None:
    mask = mask_of(*[LONGEST] * (TABLE_END // LONGEST + 1))
    assert tokens(pack(model, OPENVINO), mask) == mask.sum() > TABLE_END


@pytest.fixture(scope="module")
def openvino_classifier(model: Any) -> Any:
    return ENGINE_TABLE[OPENVINO].open(pack(model, OPENVINO).SerializeToString(), "fp32", 1, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("input_ids", VOCABULARY), ("input_ids", 10**9), ("input_ids", -1), ("token_type_ids", 2)]
)
def test_openvino_has_no_number_for_a_text_with_an_id_outside_its_table(
    openvino_classifier: Any, name: str, value: int
) -> None:
    values = feed(mask_of(9, 4, 7))
    good = openvino_classifier(values)
    values[name][1, 6] = value  # where padding is, nobody reads it
    np.testing.assert_array_equal(openvino_classifier(values), good)
    values[name][1, 3] = value
    found = openvino_classifier(values)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], good[[0, 2]])


def test_openvino_has_no_number_for_a_text_longer_than_the_model(openvino_classifier: Any) -> None:
    assert np.isfinite(openvino_classifier(feed(mask_of(LONGEST, 3)))).all()
    found = openvino_classifier(feed(mask_of(LONGEST + 1, 3)))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_attention_is_written_for_the_engine(model: Any) -> None:
    counts = {engine: node_counts(pack(model, engine)) for engine in ENGINES}
    assert count_fused(counts[ONNXRUNTIME])["Attention"] == 1
    assert counts[OPENVINO]["Softmax"] == 1
    domains = {each.op_type for each in pack(model, OPENVINO).graph.node if each.domain == "com.microsoft"}
    assert domains == {"EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu"}


def test_signature_and_argument_stay(model: Any) -> None:
    before = model.SerializeToString()
    packed = pack(model, OPENVINO)
    assert model.SerializeToString() == before
    assert packed.graph.input == model.graph.input
    assert packed.graph.output == model.graph.output
    assert is_packed(packed)
    assert not is_packed(model)


# What other exporters write; each must answer as it did, packed as far as it goes.
FIRST_TOKEN: dict[str, Nodes] = {
    "Gather of an index of one": [node("Gather", "y zeros", "f3", axis=-2), node("Squeeze", "f3 ones", "f")],
    "Slice": [node("Slice", "y zeros ones ones", "f3"), node("Squeeze", "f3 ones", "f")],
    "Slice of all, then Gather": [
        node("Slice", "y zeros end zeros ones", "all"),
        node("Gather", "all zero", "f", axis=1),
    ],
    "Slice in two dimensions": [node("Slice", "y two_zeros bounds both", "f3"), node("Squeeze", "f3 ones", "f")],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", FIRST_TOKEN)
def test_the_first_token_is_taken_from_packed_rows(way: str, engine: str) -> None:
    model = graph([*BERT[: -len(TAKE_FIRST)], *FIRST_TOKEN[way], TAKE_FIRST[1]])
    packed = pack(model, engine)
    assert not any(name.endswith("/padded") for each in packed.graph.node for name in each.input)
    values = feed(mask_of(9, 2, 5))
    np.testing.assert_allclose(run(packed, values)[0], run(model, values)[0], atol=2e-6)


UNFUSED_EMBEDDINGS = [
    node("Gather", "words input_ids", "w"),
    node("Shape", "w", "shape"),
    node("Gather", "shape ones", "length"),
    node("Slice", "position_rows zeros length ones", "p"),
    node("Gather", "kinds token_type_ids", "k"),
    node("Add", "w k", "wk"),
    node("Add", "wk p", "wkp"),
    node("LayerNormalization", "wkp gamma beta", "x", axis=-1),
]
MASKED_MEAN = [
    node("Cast", "attention_mask", "real", to=1),
    node("Unsqueeze", "real twos", "real3"),
    node("Mul", "y real3", "masked"),
    node("ReduceMean", "masked", "f", axes=[1], keepdims=0),
    node("MatMul", "f head", "logits"),
]
MIXED: dict[str, Nodes] = {
    "embeddings that are not fused": [*UNFUSED_EMBEDDINGS, MASK, ATTENTION, *LAYER, *TAKE_FIRST],
    "a mean over the tokens": [*EMBEDDINGS, MASK, ATTENTION, *LAYER, *MASKED_MEAN],
    "an operator in the middle that mixes tokens": [
        *EMBEDDINGS,
        MASK,
        node("Attention", "x qkv qkv_bias mask", "b", num_heads=HEADS, mask_filter_value=LOWEST),
        node("CumSum", "b one", "c"),
        node("Add", "c x", "h"),
        node("Attention", "h qkv qkv_bias mask", "a", num_heads=HEADS, mask_filter_value=LOWEST),
        *LAYER,
        *TAKE_FIRST,
    ],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", MIXED)
def test_what_mixes_tokens_gets_them_by_sequence(kind: str, engine: str) -> None:
    model = graph(MIXED[kind])
    packed = pack(model, engine)
    assert is_packed(packed)
    values = feed(mask_of(9, 2, 5))
    np.testing.assert_allclose(run(packed, values)[0], run(model, values)[0], atol=5e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_of_tokens_keep_their_shape(engine: str) -> None:
    model = graph(BERT, ("logits", "y", "x"))
    mask = mask_of(9, 2, 5)
    packed = pack(model, engine)
    logits, *found = run(packed, feed(mask), ("logits", "y", "x"))
    expected = run(model, feed(mask), ("logits", "y", "x"))
    np.testing.assert_allclose(logits, expected[0], atol=2e-6)
    for one, other in zip(found, expected[1:], strict=True):
        assert one.shape == other.shape == (3, 9, HIDDEN)
        np.testing.assert_allclose(one[mask > 0], other[mask > 0], atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_attention_that_was_fused_with_three_products(engine: str) -> None:
    values = weights()
    thirds = dict(zip(("wq", "wk", "wv"), np.split(values["qkv"], 3, axis=1), strict=True))
    inputs = "wq_rows wk_rows wv_rows qkv_bias mask"
    attention = [
        *(node("MatMul", f"x {name}", f"{name}_rows") for name in thirds),
        node("MultiHeadAttention", inputs, "a", num_heads=HEADS, mask_filter_value=LOWEST),
    ]
    model = graph([*EMBEDDINGS, MASK, *attention, *LAYER, *TAKE_FIRST])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in thirds.items())
    packed = pack(model, engine)
    assert is_packed(packed)
    feeds = feed(mask_of(9, 2, 5))
    np.testing.assert_allclose(run(packed, feeds)[0], run(model, feeds)[0], atol=2e-6)


def _unmasked(nodes: Nodes) -> Nodes:
    return [node("Attention", "x qkv qkv_bias", "a", num_heads=HEADS) if each is ATTENTION else each for each in nodes]


def _causal(nodes: Nodes) -> Nodes:
    other = node("Attention", "x qkv qkv_bias mask", "a", num_heads=HEADS, unidirectional=1)
    return [other if each is ATTENTION else each for each in nodes]


@pytest.mark.parametrize("change", [_unmasked, _causal])
def test_a_graph_that_cannot_be_packed_comes_back_as_it_is(change: Callable[[Nodes], Nodes]) -> None:
    model = graph(change(BERT))
    packed = pack(model, ONNXRUNTIME)
    assert packed == model
    assert packed is not model
    assert not is_packed(packed)


def test_unknown_engine(model: Any) -> None:
    with pytest.raises(ValueError, match="no engine tensorrt"):
        pack(model, "tensorrt")


def test_constants_may_be_nodes(model: Any) -> None:
    moved = type(model)()
    moved.CopyFrom(model)
    qkv = next(weight for weight in moved.graph.initializer if weight.name == "qkv")
    moved.graph.node.insert(0, helper.make_node("Constant", [], ["qkv"], value=qkv))
    moved.graph.initializer.remove(qkv)
    assert is_packed(pack(moved, ONNXRUNTIME))
    assert not any(each.op_type == "Constant" for each in inline_constants(moved).graph.node)


# Quantised

TEXTS = TokenisedTexts(
    tuple(tuple(row[:length].tolist()) for row, length in zip(
        np.random.default_rng(5).integers(3, VOCABULARY, size=(30, LONGEST)), range(3, 33), strict=True)),
    ("input_ids", "attention_mask", "token_type_ids"), 0,
)  # fmt: skip


def quantized(model: Any, recipe: str) -> Any:
    tensors = list(dict.fromkeys(each.input[0] for each in products(model)))
    return quantize(model, RECIPES[recipe], measure(model, tensors, TEXTS, 1).ranges)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_quantised_it_is_near(model: Any, recipe: str, engine: str) -> None:
    packed = quantized(pack(model, engine), recipe)
    assert is_packed(packed)
    assert describe(packed, 0).quantized_matmuls == 4
    values = feed(mask_of(9, 2, 5))
    np.testing.assert_allclose(run(packed, values)[0], run(model, values)[0], atol=0.3)


def test_ranges_are_the_same_in_every_layout(model: Any) -> None:
    """So that they are measured once, padding and repeated rows left out."""
    tensors = ["x", "a", "n", "g"]
    padded, *others = (measure(each, tensors, TEXTS, 1).ranges for each in (model, *(pack(model, e) for e in ENGINES)))
    for ranges in others:
        for name in tensors:
            np.testing.assert_allclose(np.array(ranges[name]), np.array(padded[name]), atol=2e-6)


@pytest.mark.parametrize("layout", [None, *ENGINES])
def test_smoothing_behind_attention_costs_no_operator(model: Any, layout: str | None) -> None:
    laid_out = pack(model, layout) if layout else model
    counts = node_counts(quantized(laid_out, "smoothed")), node_counts(quantized(laid_out, "static"))
    assert counts[0]["Mul"] - counts[1]["Mul"] == 3  # of four products
    values = feed(mask_of(9, 2, 5))
    np.testing.assert_allclose(run(quantized(laid_out, "smoothed"), values)[0], run(model, values)[0], atol=0.2)


def test_onnx_runtime_makes_integer_products_of_qdq(model: Any, tmp_path: Any) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(quantized(pack(model, ONNXRUNTIME), "static").SerializeToString(), options)
    assert node_counts(onnx.load(tmp_path / "optimised.onnx"))["MatMulIntegerToFloat"] == 4
