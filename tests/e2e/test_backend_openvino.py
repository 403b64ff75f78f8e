"""The stand-in for the C++ OpenVINO backend in the real Triton, on graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from server import TritonServer
from tests.e2e.backend_models import bag_graph, weights
from tests.e2e.triton import eventually, load
from tests.e2e.wire import Refusal, Wire

Dims = Sequence[int | str]


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """A server on an empty repository; the tests write models and load them."""
    repository = tmp_path_factory.mktemp("openvino_models")
    return module_server_factory(repository, extra_args=["--model-control-mode=explicit"])


@pytest.fixture(scope="module")
def wire(server: TritonServer) -> Iterator[Wire]:
    wire = Wire("http", server)
    yield wire
    wire.close()


def parameters(**given: str) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' for key, value in given.items()
    )


def folder_of(server: TritonServer, name: str, config: str | None) -> Path:
    folder: Path = server.repository / name / "1"
    folder.mkdir(parents=True)
    if config is not None:
        (server.repository / name / "config.pbtxt").write_text(config)
    return folder


def write(server: TritonServer, name: str, config: str | None, dims: Dims = ("b", "n")) -> Path:
    """``double`` = x + x, ``rows`` = x without change, of float32."""
    nodes = [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Identity", ["x"], ["rows"])]
    graph = helper.make_graph(
        nodes,
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, dims) for output in ("double", "rows")],
    )
    path = folder_of(server, name, config) / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


HEAD = 'backend: "openvino" default_model_filename: "model.onnx" instance_group { kind: KIND_CPU count: 1 }\n'
OPEN = """
input { name: "x" data_type: TYPE_FP32 dims: [ -1, -1 ] }
output { name: "double" data_type: TYPE_FP32 dims: [ -1, -1 ] }
output { name: "rows" data_type: TYPE_FP32 dims: [ -1, -1 ] }
"""
FIXED = OPEN.replace("[ -1, -1 ]", "[ 2 ]")
WAITING = "dynamic_batching { max_queue_delay_microseconds: 300000 }"

# As export writes a tensor model.
BAG = (
    HEAD
    + """
input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1, -1 ] }
input { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1, -1 ] }
output { name: "logits" data_type: TYPE_FP32 dims: [ -1, 2 ] }
model_warmup {
  name: "short" batch_size: 0
  inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: [ 2, 8 ] zero_data: true } }
  inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: [ 2, 8 ] zero_data: true } }
}
"""
    + parameters(
        INFERENCE_NUM_THREADS="1", NUM_STREAMS="1", PERFORMANCE_HINT="LATENCY", SKIP_OV_DYNAMIC_BATCHSIZE="YES"
    )
)


def floats(*rows: Sequence[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_any_batch_and_length_and_bad_input_in_between(server: TritonServer, wire: Wire) -> None:
    bag_graph(folder_of(server, "bag", BAG) / "model.onnx", 1)
    assert load(server.http_url, "bag") == ""

    def ask(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.asarray(wire.infer("bag", {"input_ids": ids, "attention_mask": mask}).as_numpy("logits"))

    for shape in ((1, 3), (4, 2), (64, 5), (1, 3)):
        ids = np.arange(np.prod(shape)).reshape(shape) % len(weights(1))
        assert ask(ids, np.ones_like(ids)) == pytest.approx(weights(1)[ids].sum(axis=1), abs=1e-4)
    good = np.array([[1, 2, 3]])
    for bad in (np.ones((1, 4), dtype=np.int64), np.ones((1, 0), dtype=np.int64)):
        with pytest.raises(Refusal) as caught:
            ask(good, bad)
        assert caught.value.kind == "400"
        assert "openvino error: " in caught.value.message
        assert ask(good, np.ones_like(good)) == pytest.approx(weights(1)[good].sum(axis=1), abs=1e-4)


def test_a_batch_is_full_or_refused(server: TritonServer, wire: Wire) -> None:
    write(server, "full", HEAD + FIXED.replace("[ 2 ]", "[ -1 ]") + "max_batch_size: 3")
    assert load(server.http_url, "full") == ""
    assert wire.infer("full", {"x": floats([1], [2], [3])}).as_numpy("double").tolist() == [[2], [4], [6]]
    with pytest.raises(Refusal, match="expected requests with batch size '3', got '2'") as caught:
        wire.infer("full", {"x": floats([1], [2])})
    assert caught.value.kind == "500"


def test_requests_are_joined_and_the_batch_is_filled_up(server: TritonServer, wire: Wire) -> None:
    write(
        server,
        "padded",
        HEAD + FIXED + "max_batch_size: 8 " + WAITING + parameters(ENABLE_BATCH_PADDING="YES"),
        ("b", 2),
    )
    assert load(server.http_url, "padded") == ""

    def ask(rows: int) -> Any:
        own = Wire("grpc", server)
        try:
            return own.infer("padded", {"x": np.full((rows, 2), rows, dtype=np.float32)}).as_numpy("double").tolist()
        finally:
            own.close()

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, (1, 2, 3)))
    assert answers == [[[rows * 2.0] * 2] * rows for rows in (1, 2, 3)]

    def counts() -> tuple[int, int]:
        (stats,) = wire.client.get_inference_statistics("padded")["model_stats"]
        return stats["inference_count"], stats["execution_count"]

    eventually(lambda: counts()[0] == 6, 10, "counting six rows")
    assert counts()[1] < 3, "nothing was batched, so nothing was shown"


def test_a_graph_whose_dims_are_all_open_needs_no_tensors_in_its_config(server: TritonServer, wire: Wire) -> None:
    write(server, "bare", HEAD)
    assert load(server.http_url, "bare") == ""
    config = wire.client.get_model_config("bare")
    assert config["max_batch_size"] == 0
    assert [(one["name"], one["data_type"], one["dims"]) for one in config["input"]] == [("x", "TYPE_FP32", [-1, -1])]
    assert {one["name"] for one in config["output"]} == {"double", "rows"}
    given = wire.module.InferInput("x", [1, 1], "FP32")
    given.set_data_from_numpy(floats([5]))
    result = wire.client.infer("bare", [given], outputs=[wire.module.InferRequestedOutput("double")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["double"]
    assert result.as_numpy("double").tolist() == [[10]]


def test_several_instances_share_threads_and_streams(server: TritonServer, wire: Wire) -> None:
    config = HEAD.replace("count: 1", "count: 2") + OPEN + parameters(INFERENCE_NUM_THREADS="2", NUM_STREAMS="2")
    write(server, "twins", config)
    assert load(server.http_url, "twins") == ""
    assert wire.infer("twins", {"x": floats([4])}).as_numpy("double").tolist() == [[8]]
    lines = [line for line in server.log_tail(500).splitlines() if "twins: OpenVINO 2" in line]
    assert len(lines) == 2
    assert all("INFERENCE_NUM_THREADS 1, NUM_STREAMS 1" in line for line in lines)
    assert all("ENABLE_CPU_PINNING False" in line for line in lines)


def test_what_cannot_be_loaded_says_why(server: TritonServer) -> None:
    write(server, "unfit", HEAD + OPEN + parameters(NUM_STREAMS="many"))
    assert "to be either AUTO/NUMA/<int_value>, got many" in load(server.http_url, "unfit")
    write(server, "broken", HEAD).write_bytes(b"not a model")
    objection = load(server.http_url, "broken")
    assert "autofill failed: OpenVINO" in objection
    assert "cannot load" in objection
