"""What models and servers say of themselves reads alike from both protocols, though gRPC leaves out zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bert_triton_client as btc
from bert_triton_client.answers import ModelMetadata, ServerInfo

TENSOR = {"name": "ids", "data_type": "TYPE_INT64"}

HTTP_CONFIG: dict[str, Any] = {
    "name": "m",
    "backend": "onnxruntime",
    "max_batch_size": 8,
    "input": [{**TENSOR, "dims": [-1], "optional": False}, {**TENSOR, "name": "pos", "dims": [-1], "optional": True}],
    "output": [{"name": "out", "data_type": "TYPE_STRING", "dims": [1], "label_filename": ""}],
    "instance_group": [{"name": "m_0", "kind": "KIND_GPU", "count": 2, "gpus": [0, 1], "passive": False}],
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": 100,
        "preserve_ordering": False,
        "default_queue_policy": {"timeout_action": "REJECT", "max_queue_size": 4},
        "priority_queue_policy": {},
    },
    "response_cache": {"enable": True},
    "parameters": {"task": {"string_value": "text-classification"}},
}
GRPC_CONFIG: dict[str, Any] = {
    "name": "m",
    "backend": "onnxruntime",
    "max_batch_size": 8,
    "input": [{**TENSOR, "dims": ["-1"]}, {**TENSOR, "name": "pos", "dims": ["-1"], "optional": True}],
    "output": [{"name": "out", "data_type": "TYPE_STRING", "dims": ["1"]}],
    "instance_group": [{"name": "m_0", "kind": "KIND_GPU", "count": 2, "gpus": [0, 1]}],
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": "100",
        "default_queue_policy": {"max_queue_size": 4},
    },
    "response_cache": {"enable": True},
    "parameters": {"task": {"string_value": "text-classification"}},
}


def test_a_config_reads_the_same_from_both_protocols() -> None:
    expected = btc.ModelInfo(
        name="m",
        backend="onnxruntime",
        max_batch_size=8,
        inputs=(btc.TensorInfo("ids", "INT64", (-1,)), btc.TensorInfo("pos", "INT64", (-1,), optional=True)),
        outputs=(btc.TensorInfo("out", "BYTES", (1,)),),
        parameters={"task": "text-classification"},
        instance_groups=(btc.InstanceGroup("KIND_GPU", 2, (0, 1)),),
        dynamic_batching=btc.DynamicBatching(100, (4, 8), has_queue_policy=True),
        response_cache=True,
    )
    assert btc.ModelInfo.from_config(HTTP_CONFIG) == btc.ModelInfo.from_config(GRPC_CONFIG) == expected


def test_what_a_config_does_not_say_is_not_so() -> None:
    info = btc.ModelInfo.from_config({"name": "m"})
    assert (info.instance_groups, info.dynamic_batching, info.steps) == ((), None, ())
    assert not (info.response_cache or info.decoupled or info.sequences)


def test_dynamic_batching_without_settings_is_dynamic_batching() -> None:
    assert btc.ModelInfo.from_config({"name": "m", "dynamic_batching": {}}).dynamic_batching == btc.DynamicBatching()


def test_models_that_are_not_asked_one_request_one_answer() -> None:
    ensemble = {"step": [{"model_name": "tokenizer", "model_version": "-1"}, {"model_name": "bert"}]}
    config = {"name": "m", "ensemble_scheduling": ensemble, "model_transaction_policy": {"decoupled": True}}
    info = btc.ModelInfo.from_config({**config, "sequence_batching": {}})
    assert (info.steps, info.decoupled, info.sequences) == (("tokenizer", "bert"), True, True)


def test_metadata_read_the_same_from_both_protocols() -> None:
    def metadata(dims: list[Any]) -> dict[str, Any]:
        tensor = {"name": "TEXT", "datatype": "BYTES", "shape": dims}
        return {"name": "m", "versions": ["10", "9"], "platform": "python", "inputs": [tensor]}

    expected = ModelMetadata("m", ("9", "10"), "python", (btc.TensorInfo("TEXT", "BYTES", (-1, 1)),), ())
    assert ModelMetadata.from_json(metadata([-1, 1])) == ModelMetadata.from_json(metadata(["-1", "1"])) == expected
    server = {"name": "triton", "version": "2.51.0", "extensions": ["statistics"]}
    assert ServerInfo.from_json(server) == ServerInfo("triton", "2.51.0", ("statistics",))


@pytest.mark.parametrize("read", [ModelMetadata.from_json, ServerInfo.from_json, btc.ModelInfo.from_config])
@pytest.mark.parametrize("value", [3, [3], {}, {"name": "m", "inputs": 3, "extensions": 3, "instance_group": 3}])
def test_what_is_neither_is_an_unexpected_answer(read: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(btc.UnexpectedAnswerError):
        read(value)
