"""Real compiled models of graphs of a few nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from backends.openvino import compiled_model, shapes
from backends.openvino.compiled_model import CompiledModel, model_path, read_model
from backends.openvino.errors import InferenceError, LoadError, RequestError
from backends.openvino.graph import DATA_TYPES, Graph
from backends.openvino.runtime import openvino
from tests.conftest import REPOSITORY_ROOT

Dims = Sequence[int | str]
DOUBLE = ("Add", ["x", "x"])
PRODUCT = ("Mul", ["x", "w"])


def write(
    folder: Path, node: tuple[str, list[str]] = DOUBLE, element_type: int = TensorProto.FLOAT, dims: Dims = ("b", "n")
) -> Path:
    """An ONNX file of one node, output ``y``."""
    operator, inputs = node
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "one",
        [helper.make_tensor_value_info(name, element_type, dims) for name in dict.fromkeys(inputs)],
        [helper.make_tensor_value_info("y", element_type, dims)],
    )
    path = folder / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def io(name: str, *dims: int, data_type: str = "TYPE_FP32") -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims)}


def config(*inputs: str, max_batch_size: int = 0, dims: Sequence[int] = (-1, -1), **parameters: str) -> dict[str, Any]:
    return {
        "max_batch_size": max_batch_size,
        "input": [io(name, *dims) for name in inputs or ("x",)],
        "output": [io("y", *dims)],
        "parameters": {
            key: {"string_value": value} for key, value in {"INFERENCE_NUM_THREADS": "1", **parameters}.items()
        },
    }


NUMPY_TYPES = {
    TensorProto.BOOL: np.bool_,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.INT8: np.int8,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.FLOAT: np.float32,
}


@pytest.mark.parametrize("element_type", NUMPY_TYPES, ids=TensorProto.DataType.Name)
def test_every_type_there_and_back(tmp_path: Path, element_type: int) -> None:
    path = write(tmp_path, ("Identity", ["x"]), element_type)
    data_type = Graph.of(read_model(openvino.Core(), path)).inputs["x"].data_type
    given = np.array([[1, 0], [1, 1]]).astype(NUMPY_TYPES[element_type])
    tensors = {"input": [io("x", -1, -1, data_type=data_type)], "output": [io("y", -1, -1, data_type=data_type)]}
    answer = CompiledModel(path, {**config(), **tensors}).run({"x": given})["y"]
    assert answer.dtype == given.dtype
    assert answer.tolist() == given.tolist()


def test_every_type_in_the_table_is_tested() -> None:
    assert len(DATA_TYPES) == len(NUMPY_TYPES)


def test_the_configs_types_are_converted_from_and_to_the_graphs(tmp_path: Path) -> None:
    tensors = {
        "input": [io("x", -1, -1, data_type="TYPE_INT32")],
        "output": [io("y", -1, -1, data_type="TYPE_FP16")],
    }
    model = CompiledModel(write(tmp_path), {**config(), **tensors})
    answer = model.run({"x": np.array([[3]], dtype=np.int32)})["y"]
    assert answer.dtype == np.float16
    assert answer.tolist() == [[6.0]]


def test_shapes_may_change_from_run_to_run(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path), config(NUM_STREAMS="1", PERFORMANCE_HINT="LATENCY"))
    for shape in ((1, 3), (4, 2), (1, 3)):
        given = np.ones(shape, dtype=np.float32)
        assert model.run({"x": given})["y"].tolist() == (given * 2).tolist()
    assert "INFERENCE_NUM_THREADS 1, NUM_STREAMS 1, PERFORMANCE_HINT LATENCY" in str(model)


def test_arrays_are_read_in_place_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CompiledModel(write(tmp_path), config())
    seen = []
    tensor = openvino.Tensor

    def spy(*given: Any, **options: Any) -> Any:
        seen.extend(given[:1] if options.get("shared_memory") else [])
        return tensor(*given, **options)

    monkeypatch.setattr(compiled_model.openvino, "Tensor", spy)
    given = np.arange(4, dtype=np.float32).reshape(2, 2)
    locked = given.copy()
    locked.flags.writeable = False
    assert model.run({"x": given})["y"].tolist() == model.run({"x": locked})["y"].tolist()
    assert model.run({"x": given.T})["y"].tolist() == (given.T * 2).tolist()
    assert seen[0] is given


def test_max_batch_size_fixes_the_batch(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path), config(max_batch_size=3, dims=[-1]))
    assert model.graph.inputs["x"].shape == [3, -1]
    assert model.run({"x": np.ones((3, 2), dtype=np.float32)})["y"].shape == (3, 2)
    with pytest.raises(RequestError, match=r"input 'x' has shape \[2, 2\], the model takes \[3, -1\]"):
        model.run({"x": np.ones((2, 2), dtype=np.float32)})
    with pytest.raises(RequestError, match=r"input 'x' has shape \[3\], the model takes"):
        model.run({"x": np.ones(3, dtype=np.float32)})


def test_padding_needs_fixed_dims(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(LoadError, match=r"fixed dims only, input 'x' has \[3, -1\]"):
        CompiledModel(path, config(max_batch_size=3, dims=[-1], ENABLE_BATCH_PADDING="YES"))
    CompiledModel(path, config(max_batch_size=3, dims=[2], ENABLE_BATCH_PADDING="YES", RESHAPE_IO_LAYERS="YES"))


def test_reshape_io_layers(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path, dims=(2, 3)), config(RESHAPE_IO_LAYERS="YES"))
    assert model.run({"x": np.ones((5, 1), dtype=np.float32)})["y"].shape == (5, 1)


def test_shapes_that_contradict_each_other_are_refused_and_spoil_nothing(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path, PRODUCT), config("x", "w"))

    def run(*shapes: tuple[int, int]) -> list[int]:
        return list(model.run(dict(zip("xw", (np.ones(s, dtype=np.float32) for s in shapes), strict=True)))["y"].shape)

    assert run((1, 3), (1, 3)) == [1, 3]
    for _ in range(2):
        with pytest.raises(RequestError, match=r"inputs of these shapes \('x' \[1, 3\], 'w' \[1, 4\]\): .*"):
            run((1, 3), (1, 4))
    assert run((1, 3), (1, 3)) == [1, 3]
    assert run((2, 3), (1, 3)) == [2, 3]  # broadcast: they differ and fit


def positions(folder: Path, count: int) -> Path:
    """An ONNX file that adds the first n of ``count`` numbers to x[b, n], as BERT adds its positions."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["n"]),
        helper.make_node("Slice", ["table", "zero", "n"], ["row"]),
        helper.make_node("Add", ["x", "row"], ["y"]),
    ]
    constants = {"table": np.arange(count, dtype=np.float32), "one": np.array([1]), "zero": np.array([0])}
    graph = helper.make_graph(
        nodes,
        "positions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "n"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("count", [1, 6, 700])
def test_more_than_the_graph_takes_is_refused(tmp_path: Path, count: int) -> None:
    model = CompiledModel(positions(tmp_path, count), config())
    for size in (count, count + 1, 2 * count + 3, count):
        given = {"x": np.zeros((2, size), dtype=np.float32)}
        if count in (size, 1):  # one number is added to all
            expected = np.arange(size) if count > 1 else np.zeros(size)
            assert model.run(given)["y"].tolist() == [expected.tolist()] * 2
        else:
            with pytest.raises(RequestError, match=rf"'x' \[2, {size}\]\): .*inconsistent"):
                model.run(given)


def test_only_unusual_shapes_are_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, tuple[int, ...]]] = []
    monkeypatch.setattr(shapes, "_infer", lambda model, given: asked.append(given) or "")
    inference = shapes.ShapeInference(read_model(openvino.Core(), write(tmp_path, PRODUCT)), lambda: None)
    probes = len(asked)
    assert probes == 2  # one an axis: neither has an end
    inference.objection({"x": (7, 300), "w": (7, 300)})
    assert len(asked) == probes
    for _ in range(2):
        inference.objection({"x": (7, 300), "w": (7, 1)})
    assert len(asked) == probes + 1


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_leaves_its_output_empty_has_failed(tmp_path: Path, written: bool) -> None:
    model = CompiledModel(write(tmp_path), config())
    request = model._request
    model._request = SilentRequest(request, written)
    given = {"x": np.ones((1, 3), dtype=np.float32)}
    if written:
        assert model.run(given)["y"].tolist() == [[2, 2, 2]]
        return
    with pytest.raises(InferenceError, match="no output 'y': the graph does not take these shapes"):
        model.run(given)
    assert model.run(given)["y"].tolist() == [[2, 2, 2]]


class SilentRequest:
    """OpenVINO's on one thread: it may not run, and says nothing."""

    def __init__(self, request: Any, runs: bool) -> None:
        self.set_input_tensor = request.set_input_tensor
        self.set_output_tensor = request.set_output_tensor
        self.infer = request.infer if runs else lambda **options: None


def test_answers_keep_their_memory(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path), config())
    first = model.run({"x": np.ones((1, 3), dtype=np.float32)})["y"]
    model.run({"x": np.zeros((1, 3), dtype=np.float32)})
    assert first.tolist() == [[2, 2, 2]]


def test_after_a_run_that_fails_the_model_is_compiled_anew(tmp_path: Path) -> None:
    model = CompiledModel(write(tmp_path), config())
    given = {"x": np.ones((1, 3), dtype=np.float32)}
    model._request = FailingRequest()
    with pytest.raises(InferenceError, match="dim index: 1 mismatch"):
        model.run(given)
    assert model.run(given)["y"].tolist() == [[2, 2, 2]]


class FailingRequest:
    """OpenVINO's on contradicting shapes; it would go on failing, on good ones too."""

    def set_input_tensor(self, index: int, tensor: Any) -> None:
        pass

    set_output_tensor = set_input_tensor

    def infer(self, **options: Any) -> None:
        raise RuntimeError("Exception from src/plugins/node.cpp:794:\n[CPU] Multiply: dim index: 1 mismatch\n\n")


def test_graphs_in_openvinos_own_format_know_their_batch(tmp_path: Path) -> None:
    model = read_model(openvino.Core(), write(tmp_path))
    assert not Graph.of(model).batches
    model.inputs[0].get_node().layout = model.outputs[0].get_node().layout = openvino.Layout("N...")
    openvino.save_model(model, tmp_path / "model.xml")
    assert Graph.of(read_model(openvino.Core(), tmp_path / "model.xml")).batches
    path = model_path(tmp_path, {"default_model_filename": ""})
    assert path.name == "model.xml"
    assert CompiledModel(path, config()).run({"x": np.ones((1, 2), dtype=np.float32)})["y"].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (
            {"COMPILATION_NUM_THREADS": "2"},
            "OpenVINO 2[0-9.]+ cannot .*: .*Unsupported property COMPILATION_NUM_THREADS",
        ),
        ({"CPU_EXTENSION_PATH": "/none.so"}, "CPU_EXTENSION_PATH: cannot load /none.so"),
    ],
)
def test_what_openvino_refuses_is_a_load_error(tmp_path: Path, parameters: dict[str, str], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        CompiledModel(write(tmp_path), config(**parameters))


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_needs_the_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool) -> None:
    capabilities = ["FP32", "BF16"] if has_bf16 else ["FP32", "INT8"]
    ask = openvino.Core.get_property
    monkeypatch.setattr(
        compiled_model.openvino.Core,
        "get_property",
        lambda core, device, key: capabilities if key == "OPTIMIZATION_CAPABILITIES" else ask(core, device, key),
    )
    if has_bf16:
        assert "bf16 where the graph leaves it open" in str(CompiledModel(write(tmp_path), config(HINT_BF16="YES")))
    else:
        with pytest.raises(LoadError, match=r"no bfloat16 instructions \(it has FP32, INT8\)"):
            CompiledModel(write(tmp_path), config(HINT_BF16="YES"))


def test_types_and_names_that_are_not_served(tmp_path: Path) -> None:
    graph = Graph.of(read_model(openvino.Core(), write(tmp_path, element_type=TensorProto.DOUBLE)))
    with pytest.raises(LoadError, match="'x' is f64; the backend serves boolean"):
        _ = graph.inputs["x"].data_type


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"unable to find '.*model.xml'; default_model_filename names another"):
        model_path(tmp_path, {})
    (tmp_path / "model.xml").write_text("not a model")
    with pytest.raises(LoadError, match=r"OpenVINO \d+.* cannot load .*model.xml: "):
        read_model(openvino.Core(), model_path(tmp_path, {}))


PROGRAM = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(event, arguments)
sys.addaudithook(refuse)
from backends.openvino.runtime import openvino
openvino.Core()
print([name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY_ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
