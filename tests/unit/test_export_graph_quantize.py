"""The rewritten graphs compute what they should, on a graph of one layer's products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import calibration
from export.errors import FusionError, QualityError
from export.evaluation import TokenisedTexts, onnx_session
from export.fuse import check, count_fused, node_counts
from export.graph import GraphEditor, describe
from export.half import check_range
from export.quantize import RECIPES, Recipe, affine, products, quantize, quantize_weight, smoothing_factors
from export.shapes import Shapes

HIDDEN, WIDE, HEADS = 32, 64, 4
Array = NDArray[Any]


def weights() -> dict[str, Array]:
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return generator.normal(0, 0.3, size=shape).astype(np.float32)

    return {
        "qkv": normal(HIDDEN, 3 * HIDDEN),
        "qkv_bias": normal(3 * HIDDEN),
        "up": normal(HIDDEN, WIDE),
        "down": normal(WIDE, HIDDEN),
        "head": normal(HIDDEN, 2),
    }


@pytest.fixture(scope="module")
def model() -> Any:
    """x -> Attention -> MatMul up -> Relu -> MatMul down -> MatMul head."""
    nodes = [
        helper.make_node("Attention", ["x", "qkv", "qkv_bias", "mask"], ["a"], domain="com.microsoft", num_heads=HEADS),
        helper.make_node("MatMul", ["a", "up"], ["u"]),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("MatMul", ["r", "down"], ["d"]),
        helper.make_node("MatMul", ["d", "head"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", HIDDEN]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "d")],
        [numpy_helper.from_array(value, name) for name, value in weights().items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(scope="module")
def feed() -> dict[str, Array]:
    x = np.random.default_rng(1).normal(size=(3, 9, HIDDEN)).astype(np.float32)
    x[:, :, 5] *= 12  # an outlier channel, as BERTs have
    mask = np.ones((3, 9), dtype=np.int32)
    mask[1, 6:] = 0
    return {"x": x, "mask": mask}


def run(model: Any, feed: dict[str, Array]) -> Array:
    return np.asarray(onnx_session(model.SerializeToString(), 1).run(["d"], feed)[0])


@pytest.fixture(scope="module")
def ranges(model: Any, feed: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
    probed = type(model)()
    probed.CopyFrom(model)
    for name in ("a", "r"):
        probed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    values = onnx_session(probed.SerializeToString(), 1).run(["a", "r"], feed)
    tensors = {"x": feed["x"], "a": values[0], "r": values[1]}
    return {name: (value.min(axis=(0, 1)), value.max(axis=(0, 1))) for name, value in tensors.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_computes_the_same_to_within_rounding(recipe: str, model: Any, feed: Any, ranges: Any) -> None:
    quantized = quantize(model, RECIPES[recipe], ranges)
    expected, found = run(model, feed), run(quantized, feed)
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 0.1
    report = describe(quantized, 0)
    assert report.quantized_matmuls == 3
    weights = {weight.name for weight in quantized.graph.initializer}
    left = [node for node in quantized.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    assert [node.output[0] for node in left] in ([], ["y"])  # of the head, where an output depends on it
    assert count_fused(node_counts(quantized))["Attention"] == 1


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.candidate])
def test_answers_do_not_depend_on_the_batch(recipe: str, model: Any, feed: Any, ranges: Any) -> None:
    quantized = quantize(model, RECIPES[recipe], ranges)
    together = run(quantized, feed)
    loud = {"x": feed["x"] * np.array([1, 1, 50], dtype=np.float32)[:, None, None], "mask": feed["mask"]}
    np.testing.assert_allclose(run(quantized, loud)[:2], together[:2], atol=1e-5)
    for row in range(3):
        alone = run(quantized, {name: value[row : row + 1] for name, value in feed.items()})
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_dynamic_answers_do_depend_on_the_batch(model: Any, feed: Any) -> None:
    """Why it is not a candidate."""
    quantized = quantize(model, RECIPES["dynamic"])
    loud = {"x": feed["x"] * np.array([1, 1, 50], dtype=np.float32)[:, None, None], "mask": feed["mask"]}
    assert np.abs(run(quantized, loud)[:2] - run(quantized, feed)[:2]).max() > 0.05
    assert not RECIPES["dynamic"].candidate


def test_smoothing_helps_with_an_outlier_channel(model: Any, feed: Any, ranges: Any) -> None:
    expected = run(model, feed)
    errors = {
        name: np.abs(run(quantize(model, RECIPES[name], ranges), feed) - expected).mean()
        for name in ("static", "smoothed")
    }
    assert errors["smoothed"] < errors["static"]


@pytest.mark.parametrize(("limit", "chosen"), [(1.0, "per-token"), (1e-9, "static")])
def test_choice_passes_over_what_would_fail_the_logits_gate(
    limit: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``static`` agrees as well and is cheaper, but is off by 3 where it was not calibrated."""
    texts = TokenisedTexts(((1, 2), (3,)), ("input_ids", "attention_mask"), 0)
    shape = {"input_ids": np.array([[9]]), "attention_mask": np.array([[1]])}
    shapes = Shapes((shape,), (np.array([[1.0, 0.0]], dtype=np.float32),))

    class Model:
        def __init__(self, recipe: Recipe) -> None:
            self.recipe = recipe

        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            return self.recipe.name.encode()

    def classifier(model: bytes, _: int) -> Any:
        off = 3.0 if model == b"static" else 1e-6

        def classify(tensors: Any) -> Array:
            ids = tensors["input_ids"]
            return np.array([[1.0, off * (ids == 9).any()]] * len(ids), dtype=np.float32)

        return classify

    monkeypatch.setattr(calibration, "onnx_classifier", classifier)
    recipes = [RECIPES["static"], RECIPES["per-token"]]
    reference = np.array([[1.0, 0.0]] * 2, dtype=np.float32)
    name, tried = calibration.choose(recipes, Model, texts, reference, shapes=shapes, limit=limit, threads=1)
    assert name == chosen
    assert [candidate.agreement for candidate in tried] == [1.0, 1.0]


def test_rows_of_zeros_stay_zero(model: Any, feed: Any) -> None:
    silent = {"x": np.zeros_like(feed["x"]), "mask": feed["mask"]}
    found = run(quantize(model, RECIPES["per-token"]), silent)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, run(model, silent), atol=0.05)


def test_newer_operator_set(model: Any, feed: Any) -> None:
    """From opset 18 on ReduceMax takes its axes as an input; files given with --onnx may have it."""
    newer = type(model)()
    newer.CopyFrom(model)
    newer.opset_import[0].version = 18
    old, new = (quantize(each, RECIPES["per-token"]) for each in (model, newer))
    np.testing.assert_allclose(run(new, feed), run(old, feed), atol=1e-6)


def test_static_recipes_need_ranges(model: Any) -> None:
    with pytest.raises(ValueError, match="calibration"):
        quantize(model, RECIPES["static"])


def test_original_is_left_alone(model: Any) -> None:
    before = model.SerializeToString()
    quantize(model, RECIPES["per-token"])
    assert model.SerializeToString() == before


def test_products_leave_out_heads_and_what_qattention_lacks(model: Any) -> None:
    assert [node.op_type for node in products(model)] == ["Attention", "MatMul", "MatMul"]
    other = type(model)()
    other.CopyFrom(model)
    other.graph.node[0].attribute.append(helper.make_attribute("scale", 0.5))
    assert [node.op_type for node in products(other)] == ["MatMul", "MatMul"]


def test_nothing_to_quantise() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    with pytest.raises(QualityError, match="no product"):
        quantize(helper.make_model(graph), RECIPES["per-token"])


def test_fused_embeddings_become_bytes_with_a_scale_per_token() -> None:
    generator = np.random.default_rng(3)
    tables = {
        "words": generator.normal(size=(50, 16)),
        "positions": generator.normal(size=(12, 16)),
        "types": generator.normal(size=(2, 16)),
        "gamma": generator.normal(1, 0.1, size=16),
        "beta": generator.normal(size=16),
    }
    tables["words"][7] *= 100  # one loud token must not cost the others their precision
    names = ["ids", "segments", "words", "positions", "types", "gamma", "beta"]
    node = helper.make_node("EmbedLayerNormalization", names, ["y", "unused"], domain="com.microsoft", epsilon=1e-12)
    matmul = helper.make_node("MatMul", ["y", "matrix"], ["z"])
    graph = helper.make_graph(
        [node, matmul],
        "embeddings",
        [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"]) for name in ("ids", "segments")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in tables.items()),
            numpy_helper.from_array(np.eye(16, dtype=np.float32), "matrix"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    quantized = quantize(model, RECIPES["per-token"])
    ids = generator.integers(0, 50, size=(3, 9)).astype(np.int32)
    ids[0, 0] = 7
    feed = {"ids": ids, "segments": generator.integers(0, 2, size=(3, 9)).astype(np.int32)}
    expected, found = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(["y"], feed)[0] for m in (model, quantized)
    )
    np.testing.assert_allclose(found, expected, atol=0.05)
    stored = {weight.name: weight.data_type for weight in quantized.graph.initializer}
    assert stored["words/quantized"] == TensorProto.INT8
    assert "words" not in stored


def test_quantize_weight() -> None:
    weight = np.array([[1.0, -0.5, 0.0], [-2.0, 0.25, 0.0]], dtype=np.float32)
    values, scales = quantize_weight(weight)
    assert values.dtype == np.int8
    assert values.tolist() == [[64, -127, 0], [-127, 64, 0]]
    np.testing.assert_allclose(values * scales, weight, atol=0.01)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_affine_represents_zero_and_both_ends(low: float, high: float) -> None:
    scale, zero_point = affine(low, high)
    assert 0 <= zero_point <= 255
    assert (0 - zero_point) * scale <= low + scale
    assert (255 - zero_point) * scale >= high - scale


def test_smoothing_factors_average_to_one() -> None:
    factors = smoothing_factors(np.array([-1.0, -8.0]), np.array([1.0, 2.0]), np.ones((2, 4), dtype=np.float32), 0.5)
    assert factors[0] < factors[1]
    assert np.prod(factors) == pytest.approx(1.0)


def test_editor_keeps_names_unique_and_drops_what_is_unused(model: Any) -> None:
    editor = GraphEditor(model)
    assert editor.opset == 17
    assert editor.constant("qkv", np.zeros(3)) == "qkv"
    assert editor.weight("qkv").shape == (HIDDEN, 3 * HIDDEN)  # what is there stays
    editor.add("Identity", ["x"], ["y"])
    editor.add("Identity", ["x"], ["d"])
    assert len(editor.finish().graph.initializer) == 0


def test_check_range() -> None:
    def graph(value: Array) -> Any:
        tensor = numpy_helper.from_array(value.astype(np.float32), "w")
        return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))

    check_range(graph(np.array([65504.0])))
    check_range(graph(np.array(-3.4e38)))  # the constant that masks attention
    for wrong in (65600.0, -7e4, np.inf, np.nan):
        with pytest.raises(QualityError, match="w holds"):
            check_range(graph(np.array([wrong])))


def test_a_graph_without_attention_is_an_error() -> None:
    counts = {"Attention": 0, "SkipLayerNormalization": 12, "BiasGelu": 0, "EmbedLayerNormalization": 0}
    with pytest.raises(FusionError, match="0 Attention nodes"):
        check(counts)
    check({**counts, "Attention": 6})
