"""The stand-in for the C++ ONNX Runtime backend in the real Triton, on graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from server import TritonServer
from tests.e2e.triton import eventually, load
from tests.e2e.wire import Refusal, Wire

Dims = Sequence[int | str]
WAITING = "dynamic_batching { max_queue_delay_microseconds: 300000 }"


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """A server on an empty repository; the tests write models and load them."""
    repository = tmp_path_factory.mktemp("onnx_models")
    return module_server_factory(repository, extra_args=["--model-control-mode=explicit"])


@pytest.fixture(scope="module")
def wire(server: TritonServer) -> Iterator[Wire]:
    wire = Wire("http", server)
    yield wire
    wire.close()


def write(
    server: TritonServer, name: str, config: str | None, *, dims: Dims = ("b", "n"), file: str = "model.onnx"
) -> Path:
    """``double`` = x + x, ``rows`` = x without change, of int64; by default with free batch and length."""
    nodes = [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Identity", ["x"], ["rows"])]
    graph = helper.make_graph(
        nodes,
        "double",
        [helper.make_tensor_value_info("x", TensorProto.INT64, dims)],
        [helper.make_tensor_value_info(output, TensorProto.INT64, dims) for output in ("double", "rows")],
    )
    return write_graph(server, name, config, graph, file)


def write_graph(server: TritonServer, name: str, config: str | None, graph: Any, file: str = "model.onnx") -> Path:
    path: Path = server.repository / name / "1" / file
    path.parent.mkdir(parents=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    if config is not None:
        (server.repository / name / "config.pbtxt").write_text(config)
    return path


FULL = """
backend: "onnxruntime" max_batch_size: 8
input { name: "x" data_type: TYPE_INT64 dims: -1 }
output { name: "double" data_type: TYPE_INT64 dims: -1 }
output { name: "rows" data_type: TYPE_INT64 dims: -1 }
instance_group { kind: KIND_CPU count: 1 }
"""


def test_without_a_config_everything_comes_from_the_graph(server: TritonServer, wire: Wire) -> None:
    write(server, "bare", None)
    assert load(server.http_url, "bare") == ""
    config = wire.client.get_model_config("bare")
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert [(tensor["name"], tensor["data_type"], tensor["dims"]) for tensor in config["input"]] == [
        ("x", "TYPE_INT64", [-1])
    ]
    assert {tensor["name"] for tensor in config["output"]} == {"double", "rows"}
    result = wire.infer("bare", {"x": np.array([[1, 2], [3, 4]])})
    assert result.as_numpy("double").tolist() == [[2, 4], [6, 8]]


def test_a_graph_without_a_free_first_dimension_is_completed_without_batches(server: TritonServer, wire: Wire) -> None:
    write(server, "fixed", 'backend: "onnxruntime"', dims=(2, "n"))
    assert load(server.http_url, "fixed") == ""
    config = wire.client.get_model_config("fixed")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [2, -1])
    assert wire.infer("fixed", {"x": np.array([[1], [2]])}).as_numpy("double").tolist() == [[2], [4]]


def test_outputs_alone_are_completed_too(server: TritonServer, wire: Wire) -> None:
    write(server, "half", FULL.replace("output {", "#"))
    assert load(server.http_url, "half") == ""
    assert {tensor["name"] for tensor in wire.client.get_model_config("half")["output"]} == {"double", "rows"}


def test_scalars_and_strings(server: TritonServer, wire: Wire) -> None:
    write(server, "scalar", None, dims=())
    assert load(server.http_url, "scalar") == ""
    assert wire.infer("scalar", {"x": np.array([21])}).as_numpy("double").tolist() == [42]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["same"])],
        "strings",
        [helper.make_tensor_value_info("t", TensorProto.STRING, ["b", 2])],
        [helper.make_tensor_value_info("same", TensorProto.STRING, ["b", 2])],
    )
    write_graph(server, "strings", None, graph)
    assert load(server.http_url, "strings") == ""
    texts = np.array([["é".encode(), b""]], dtype=object)
    assert wire.infer("strings", {"t": texts}).as_numpy("same").tolist() == texts.tolist()
    with pytest.raises(Refusal, match="not valid UTF-8") as caught:
        wire.infer("strings", {"t": np.array([[b"\xff", b""]], dtype=object)})
    assert caught.value.kind == "400"


def test_another_file_name(server: TritonServer, wire: Wire) -> None:
    write(server, "named", FULL + 'default_model_filename: "other.onnx"', file="other.onnx")
    assert load(server.http_url, "named") == ""
    assert wire.infer("named", {"x": np.array([[5]])}).as_numpy("double").tolist() == [[10]]


def test_only_requested_outputs(server: TritonServer, wire: Wire) -> None:
    write(server, "picky", FULL)
    assert load(server.http_url, "picky") == ""
    given = wire.module.InferInput("x", [1, 1], "INT64")
    given.set_data_from_numpy(np.array([[5]]))
    result = wire.client.infer("picky", [given], outputs=[wire.module.InferRequestedOutput("rows")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["rows"]


PARAMETERS = {
    "intra_op_thread_count": "1",
    "inter_op_thread_count": "1",
    "execution_mode": "1",
    "enable_mem_arena": "On",
    "enable_mem_pattern": "0",
    "memory.enable_memory_arena_shrinkage": "cpu:0",
    "something_else": "ignored",
}


def parameters(**given: str) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' for key, value in given.items()
    )


def test_every_parameter_and_graph_level(server: TritonServer, wire: Wire) -> None:
    write(server, "tuned", FULL + parameters(**PARAMETERS) + "optimization { graph { level: 2 } }")
    assert load(server.http_url, "tuned") == ""
    assert wire.infer("tuned", {"x": np.array([[5]])}).as_numpy("double").tolist() == [[10]]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FULL.replace('"x"', '"y"'), "unexpected inference input 'y', allowed inputs are: x"),
        (FULL.replace('"x" data_type: TYPE_INT64', '"x" data_type: TYPE_FP32'), "model provides TYPE_INT64"),
        (FULL.replace("dims: -1", "dims: [-1, 3]", 1), "specifies 3 dimensions"),
        (FULL.replace('"rows"', '"lines"'), "unexpected inference output 'lines'"),
        (FULL + 'input { name: "z" data_type: TYPE_INT64 dims: 1 }', "expects 2 inputs (x, z), model provides 1 (x)"),
        (FULL + parameters(enable_mem_arena="yes"), "enable_mem_arena is 'yes'"),
        (FULL + parameters(execution_mode="2"), "execution_mode is 2"),
        (FULL + 'default_model_filename: "none.onnx"', "none.onnx'"),
        (
            FULL + 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }',
            "unknown Execution Accelerator 'openvino'",
        ),
        (FULL.replace("KIND_CPU", "KIND_GPU"), "GPU"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    server: TritonServer, request: pytest.FixtureRequest, config: str, words: str
) -> None:
    model = f"unfit_{request.node.callspec.indices['words']}"
    write(server, model, config)
    assert words in load(server.http_url, model)


def test_batches_that_the_graph_cannot_take_are_refused(server: TritonServer) -> None:
    write(server, "unbatched", 'backend: "onnxruntime" max_batch_size: 4', dims=(2, "n"))
    assert "does not support batching while non-zero max_batch_size" in load(server.http_url, "unbatched")


def test_a_broken_file_is_refused_with_and_without_a_config(server: TritonServer) -> None:
    for name, config in (("broken", FULL), ("broken_bare", 'backend: "onnxruntime"')):
        write(server, name, config).write_bytes(b"not a model")
        assert "cannot load" in load(server.http_url, name)


def test_a_request_that_fails_does_not_spoil_its_batch(server: TritonServer, wire: Wire) -> None:
    # Gather: an index outside the table makes ONNX Runtime fail the whole run.
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "gather",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["b", "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [0.0, 10.0, 20.0])],
    )
    config = FULL.replace('output { name: "rows" data_type: TYPE_INT64 dims: -1 }', "").replace("double", "y")
    write_graph(
        server, "gather", config.replace('"y" data_type: TYPE_INT64', '"y" data_type: TYPE_FP32') + WAITING, graph
    )
    assert load(server.http_url, "gather") == ""

    def ask(index: int) -> Any:
        own = Wire("grpc", server)
        try:
            return own.infer("gather", {"x": np.array([[index, 0]])}).as_numpy("y").tolist()
        except Refusal as exc:
            return exc
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        first, second, bad, third = pool.map(ask, (1, 2, 99, 0))
    assert (first, second, third) == ([[10.0, 0.0]], [[20.0, 0.0]], [[0.0, 0.0]])
    assert isinstance(bad, Refusal)
    assert bad.kind == "INTERNAL"
    assert "onnx runtime error" in bad.message

    def counts() -> tuple[int, int]:
        (stats,) = wire.client.get_inference_statistics("gather")["model_stats"]
        return stats["inference_count"], stats["execution_count"]

    eventually(lambda: counts()[0] == 4, 10, "counting four requests")
    assert counts()[1] < 4, "nothing was batched, so nothing was shown"
