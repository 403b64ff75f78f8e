"""Real sessions on graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from backends.onnxruntime import session as session_module
from backends.onnxruntime.batching import decode_strings, feed, outputs_for_triton
from backends.onnxruntime.errors import LoadError
from backends.onnxruntime.graph import DATA_TYPES, Graph, Tensor
from backends.onnxruntime.run import bound, plain, run_of
from backends.onnxruntime.session import create_session, run_options

Dims = Sequence[int | str | None]


def identity(path: Path, element_type: int, dims: Dims = ("batch", 2)) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", element_type, dims)],
        [helper.make_tensor_value_info("y", element_type, dims)],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


SHARED_TYPES = {
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
    TensorProto.DOUBLE: np.float64,
}


@pytest.mark.parametrize("element_type", SHARED_TYPES, ids=TensorProto.DataType.Name)
def test_every_shared_type_there_and_back(tmp_path: Path, element_type: int) -> None:
    session = create_session(identity(tmp_path / "model.onnx", element_type), {}, "CPU", 0)
    graph = Graph.of(session)
    assert graph.inputs["x"].dims == (-1, 2)
    given = np.array([[1, 0], [1, 1]]).astype(SHARED_TYPES[element_type])
    values = session.run(["y"], feed([{"x": given[:1]}, {"x": given[1:]}], graph.inputs), run_options({}))
    (answer,) = outputs_for_triton(values, ["y"], graph.outputs).values()
    assert answer.dtype == given.dtype
    assert answer.tolist() == given.tolist()


def test_strings_there_and_back(tmp_path: Path) -> None:
    session = create_session(identity(tmp_path / "model.onnx", TensorProto.STRING), {}, "CPU", 0)
    graph = Graph.of(session)
    given = np.array([["é".encode(), b""]], dtype=object)
    values = session.run(["y"], {"x": decode_strings(given, "x")})
    assert outputs_for_triton(values, ["y"], graph.outputs)["y"].tolist() == given.tolist()


@pytest.mark.parametrize("element_type", SHARED_TYPES, ids=TensorProto.DataType.Name)
def test_a_bound_run_answers_as_a_plain_one_whatever_the_shapes(tmp_path: Path, element_type: int) -> None:
    session = create_session(identity(tmp_path / "model.onnx", element_type, ("batch", "n")), {}, "CPU", 0)
    run = bound(session, run_options({}))
    for shape in ((3, 4), (1, 2), (0, 2), (5, 1)):
        given = np.ones((shape[1], shape[0]), dtype=SHARED_TYPES[element_type]).T  # not in one piece
        (answer,) = run(["y"], {"x": given})
        (expected,) = plain(session, run_options({}))(["y"], {"x": given})
        assert (answer.dtype, answer.shape) == (given.dtype, shape)
        assert (answer == expected).all()


def test_a_bound_run_takes_scalars_and_computes_only_what_is_asked_for(tmp_path: Path) -> None:
    scalar = create_session(identity(tmp_path / "model.onnx", TensorProto.INT64, ()), {}, "CPU", 0)
    (answer,) = bound(scalar, run_options({}))(["y"], {"x": np.array(7)})
    assert answer.item() == 7
    assert answer.shape == ()
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Neg", ["x"], ["negative"])],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("same", "negative")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    two = bound(create_session(tmp_path / "model.onnx", {}, "CPU", 0), run_options({}))
    (negative,) = two(["negative"], {"x": np.array([1], dtype=np.float32)})
    assert negative.tolist() == [-1]
    assert [values.tolist() for values in two(["negative", "same"], {"x": np.array([2], dtype=np.float32)})] == [
        [-2],
        [2],
    ]


def test_a_bound_run_that_fails_leaves_the_next_one_whole(tmp_path: Path) -> None:
    session = create_session(identity(tmp_path / "model.onnx", TensorProto.FLOAT), {}, "CPU", 0)
    run = bound(session, run_options({}))
    with pytest.raises(Exception, match="x"):
        run(["y"], {"x": np.ones((1, 3), dtype=np.float32)})
    assert run(["y"], {"x": np.ones((1, 2), dtype=np.float32)})[0].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("element_type", "provider", "expected"),
    [
        (TensorProto.FLOAT, "CUDAExecutionProvider", "bound"),
        (TensorProto.FLOAT, "CPUExecutionProvider", "plain"),
        (TensorProto.STRING, "CUDAExecutionProvider", "plain"),
    ],
)
def test_binds_numbers_where_there_is_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, element_type: int, provider: str, expected: str
) -> None:
    session = create_session(identity(tmp_path / "model.onnx", element_type), {}, "CPU", 0)
    graph = Graph.of(session)
    monkeypatch.setattr(session, "get_providers", lambda: list(dict.fromkeys([provider, "CPUExecutionProvider"])))
    assert run_of(session, graph, run_options({})).__qualname__.startswith(expected)


def test_every_type_in_the_table_is_tested() -> None:
    names = {TensorProto.DataType.Name(element_type) for element_type in SHARED_TYPES}
    assert len(DATA_TYPES) == len(names) + 1  # and strings


def test_a_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    session = create_session(identity(tmp_path / "model.onnx", TensorProto.BFLOAT16), {}, "CPU", 0)
    with pytest.raises(LoadError, match=r"'x' is tensor\(bfloat16\); this stand-in serves"):
        Graph.of(session)


def test_scalars_and_open_dimensions(tmp_path: Path) -> None:
    scalar = Graph.of(create_session(identity(tmp_path / "model.onnx", TensorProto.INT64, ()), {}, "CPU", 0))
    assert scalar.inputs == {"x": Tensor("x", "TYPE_INT64", ())}
    assert not scalar.batches
    free = Graph.of(create_session(identity(tmp_path / "model.onnx", TensorProto.INT64, ("b", None)), {}, "CPU", 0))
    assert free.inputs["x"].dims == (-1, -1)
    assert free.batches


def test_initialisers_may_be_overridden(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "add",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "w")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([5], dtype=np.float32), "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    read = Graph.of(create_session(tmp_path / "model.onnx", {}, "CPU", 0))
    assert (set(read.inputs), set(read.optional_inputs)) == ({"x"}, {"w"})


def test_a_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(LoadError, match=r"cannot load .*model.onnx"):
        create_session(tmp_path / "model.onnx", {}, "CPU", 0)


def test_a_provider_that_does_not_start_is_an_error_and_no_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = identity(tmp_path / "model.onnx", TensorProto.FLOAT)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(session_module.onnxruntime, "InferenceSession", _CpuAnyway)
    said = "Failed to load libcudart"
    monkeypatch.setattr(session_module.onnxruntime, "preload_dlls", lambda: print(said))
    with pytest.raises(LoadError, match=f"has CUDAExecutionProvider but could not start it.*{said}"):
        create_session(path, {}, "GPU", 0)


class _CpuAnyway(onnxruntime.InferenceSession):  # type: ignore[misc]
    """What ONNX Runtime does when libcudart is missing: warns and takes the CPU."""

    def __init__(self, path: str, options: object, providers: object) -> None:
        super().__init__(path, options, providers=["CPUExecutionProvider"])
