"""Both engines compute the same small graph, and what this machine lacks is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bert_triton_client import contract
from export import engines
from export.errors import EngineError, UsageError
from export.evaluation import TokenisedTexts, predict
from export.precisions import Material
from export.progress import Steps
from export.shapes import Shapes

INPUTS = ("input_ids", "attention_mask")


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Logits from the sum of the real tokens' embeddings."""
    table = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["logits"], keepdims=0),
    ]
    values = [numpy_helper.from_array(table, "table")]
    values += [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", 2), ("one", 1))]
    made = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        values,
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def texts() -> TokenisedTexts:
    generator = np.random.default_rng(1)
    rows = (tuple(generator.integers(1, 50, size=size).tolist()) for size in generator.integers(1, 30, size=60))
    return TokenisedTexts(tuple(rows), INPUTS, 0)


def test_engines_are_the_backends_of_the_contract() -> None:
    assert tuple(engines.ENGINES) == contract.TENSOR_BACKENDS
    assert all(set(able) <= set(contract.TENSOR_BACKENDS) for able in contract.ENGINES.values())
    assert set(contract.ENGINES) == set(contract.PRECISIONS)


@pytest.mark.parametrize("engine", contract.TENSOR_BACKENDS)
def test_a_classifier_from_a_file_and_from_bytes(engine: str, graph: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph)
    tensors = texts().tensors([0, 1, 2])
    for model in (graph, path):
        answer = engines.classifier(engine, model, "int8", 1)(tensors)
        assert (answer.shape, answer.dtype) == ((3, 2), np.float32)
        expected = engines.classifier("onnxruntime", graph, "fp32", 1)(tensors)
        np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("engine", contract.TENSOR_BACKENDS)
def test_calls_from_several_threads_do_not_mix(engine: str, graph: bytes) -> None:
    classify = engines.classifier(engine, graph, "int8", 1, calls=4)
    rows = texts()
    batches = [[index] for index in range(len(rows))]
    alone = predict(engines.classifier(engine, graph, "int8", 1), rows, batches=batches)
    np.testing.assert_allclose(predict(classify, rows, batches=batches, workers=4), alone, atol=1e-5)


def test_an_answer_outlives_the_next_call(graph: bytes) -> None:
    """OpenVINO writes every answer of a request into the same memory."""
    classify = engines.classifier("openvino", graph, "int8", 1)
    first = classify(texts().tensors([0]))
    kept = first.copy()
    classify(texts().tensors([1]))
    np.testing.assert_array_equal(first, kept)


def test_openvino_is_given_what_the_config_says(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Core:
        def read_model(self, model: bytes) -> bytes:
            return model

        def compile_model(self, model: bytes, device: str, properties: dict[str, str]) -> Any:
            seen.update(properties, device=device)
            return type("Compiled", (), {"inputs": []})()

    monkeypatch.setattr(engines, "_core", Core)
    engines.classifier("openvino", graph, "bf16", 2, calls=3)
    expected = {"INFERENCE_NUM_THREADS": "6", "NUM_STREAMS": "3", "PERFORMANCE_HINT": "LATENCY"}
    assert seen == {**expected, "INFERENCE_PRECISION_HINT": "bf16", "device": "CPU"}
    parameters = engines.parameters("openvino", "bf16", 2, 3)
    assert parameters == {**expected, "SKIP_OV_DYNAMIC_BATCHSIZE": "YES", "HINT_BF16": "YES"}
    seen.clear()
    engines.classifier("openvino", graph, "int8", 2)
    assert "INFERENCE_PRECISION_HINT" not in seen  # as Triton's backend, which has no key for it


def test_a_graph_that_openvino_cannot_run_is_one_line() -> None:
    node = helper.make_node("QAttention", ["input_ids"], ["logits"], domain="com.microsoft", num_heads=1)
    made = helper.make_graph(
        [node],
        "unknown",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(EngineError, match=r"No conversion rule .*QAttention.*--engine onnxruntime, or leave int8 out"):
        engines.classifier("openvino", model, "int8", 1)


def test_bf16_needs_a_cpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_capabilities", lambda: frozenset({"FP32", "INT8"}))
    with pytest.raises(EngineError, match=r"bf16 is not published: this CPU \(.+\) .* leave bf16 out"):
        engines.candidates("bf16")
    assert "bf16" not in engines.default_precisions()
    monkeypatch.setattr(engines, "_capabilities", lambda: frozenset({"FP32", "BF16"}))
    assert engines.candidates("bf16") == ("openvino",)
    assert engines.default_precisions() == tuple(contract.PRECISIONS)


@pytest.mark.parametrize(
    ("precision", "wanted", "expected"),
    [
        ("fp32", "auto", ("onnxruntime",)),
        ("fp32", "openvino", ("onnxruntime",)),
        ("int8", "auto", ("openvino", "onnxruntime")),
        ("int8", "onnxruntime", ("onnxruntime",)),
        ("int8", "openvino", ("openvino",)),
    ],
)
def test_candidates(precision: str, wanted: str, expected: tuple[str, ...]) -> None:
    assert engines.candidates(precision, wanted) == expected


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    found = engines.importlib.util.find_spec

    def find_spec(name: str) -> Any:
        return None if name == "openvino" else found(name)

    monkeypatch.setattr(engines.importlib.util, "find_spec", find_spec)


@pytest.mark.usefixtures("no_openvino")
@pytest.mark.parametrize(
    "use",
    [
        lambda: engines.candidates("int8", "openvino"),
        lambda: engines.classifier("openvino", b"", "int8", 1),
    ],
)
def test_an_engine_that_is_not_installed_says_how_to(use: Callable[[], object]) -> None:
    with pytest.raises(EngineError, match=r"pip install -c constraints.txt openvino, or choose --engine onnxruntime"):
        use()


@pytest.mark.usefixtures("no_openvino")
def test_without_openvino_the_other_engine_serves() -> None:
    assert engines.candidates("int8") == ("onnxruntime",)
    assert not engines.supports_bf16()


def material(**changes: Any) -> Material:
    fields: dict[str, Any] = {
        "fused": Path("none"),
        "calibration": None,
        "shapes": Shapes((), ()),
        "int8_recipe": None,
        "int8_engines": ("openvino", "onnxruntime"),
        "packing": True,
        "threads": 1,
        "steps": Steps(quiet=True),
    }
    return Material(**{**fields, **changes})


def test_openvino_has_no_recipe_without_calibration() -> None:
    assert material().recipe("onnxruntime").name == "per-token"
    with pytest.raises(EngineError, match=r"not published for openvino.*--calibration-data"):
        material().recipe("openvino")
    with pytest.raises(UsageError, match="--int8-recipe"):
        material(int8_recipe="smoothed").recipe("onnxruntime")
