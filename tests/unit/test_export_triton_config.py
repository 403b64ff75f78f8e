"""Generated configs, compared as Triton's protobuf, and the flags behind them."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig as Message

from bert_triton_client import contract
from export import serving
from export.cores import available_cores
from export.errors import RepositoryError, UsageError
from export.serving import DEFAULT_MAX_TOKENS, ServingOptions, flag_of
from export.triton_config import parse, tensor_configs, text_configs
from export.triton_messages import (
    Accelerator,
    ModelConfig,
    ModelDynamicBatching,
    ModelInstanceGroup,
    Tensor,
    serve_latest_only,
    signature,
)

FILES = {"config.pbtxt", "configs/cpu.pbtxt", "configs/gpu.pbtxt"}
THREE = contract.TENSOR_INPUTS
LABELS = ["negative", "neutral", "positive"]
DEFAULTS = ServingOptions(instances=1)  # whose own default depends on the machine


def tensor(precision: str = "int8", engine: str = "onnxruntime", **options: Any) -> dict[str, str]:
    return tensor_configs(
        "mood",
        precision,
        task="text-classification",
        inputs=THREE,
        labels=LABELS,
        options=ServingOptions(**{"instances": 1, **options}),
        engine=engine,
    )


def text(options: ServingOptions = DEFAULTS, **changes: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {
        "task": "text-classification",
        "served": {"cpu": "int8", "gpu": "fp16"},
        "inputs": THREE[:2],
        "labels": LABELS,
        "max_length": 256,
        "pad_token_id": 1,
        "options": options,
    }
    return text_configs("mood", **{**arguments, **changes})


def parameters(config: Message) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_tensor_config_on_cpu() -> None:
    expected = """
        name: "mood_int8"  backend: "onnxruntime"  max_batch_size: 64  default_model_filename: "model.onnx"
        input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }
        input { name: "attention_mask" data_type: TYPE_INT64 dims: -1 }
        input { name: "token_type_ids" data_type: TYPE_INT64 dims: -1 }
        output { name: "logits" data_type: TYPE_FP32 dims: 3 }
        instance_group { kind: KIND_CPU count: 1 }
        version_policy { latest { num_versions: 2 } }
        dynamic_batching {}
        parameters { key: "intra_op_thread_count" value { string_value: "3" } }
        parameters { key: "inter_op_thread_count" value { string_value: "1" } }
        model_warmup {
            name: "one text"  batch_size: 1
            inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: 8 zero_data: true } }
            inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: 8 zero_data: true } }
            inputs { key: "token_type_ids" value { data_type: TYPE_INT64 dims: 8 zero_data: true } }
        }
    """
    assert parse(tensor(intra_op_threads=3)["configs/cpu.pbtxt"]) == parse(expected)


def test_tensor_config_of_openvino() -> None:
    """Triton's OpenVINO backend takes any batch size only where the batch is one of the dims."""
    expected = """
        name: "mood_int8"  backend: "openvino"  max_batch_size: 0  default_model_filename: "model.onnx"
        input { name: "input_ids" data_type: TYPE_INT64 dims: [-1, -1] }
        input { name: "attention_mask" data_type: TYPE_INT64 dims: [-1, -1] }
        input { name: "token_type_ids" data_type: TYPE_INT64 dims: [-1, -1] }
        output { name: "logits" data_type: TYPE_FP32 dims: [-1, 3] }
        instance_group { kind: KIND_CPU count: 1 }
        version_policy { latest { num_versions: 2 } }
        parameters { key: "INFERENCE_NUM_THREADS" value { string_value: "3" } }
        parameters { key: "NUM_STREAMS" value { string_value: "1" } }
        parameters { key: "PERFORMANCE_HINT" value { string_value: "LATENCY" } }
        parameters { key: "SKIP_OV_DYNAMIC_BATCHSIZE" value { string_value: "YES" } }
        model_warmup {
            name: "one text"  batch_size: 1
            inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: [1, 8] zero_data: true } }
            inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: [1, 8] zero_data: true } }
            inputs { key: "token_type_ids" value { data_type: TYPE_INT64 dims: [1, 8] zero_data: true } }
        }
    """
    assert parse(tensor(engine="openvino", intra_op_threads=3)["configs/cpu.pbtxt"]) == parse(expected)


def test_bf16_is_int8s_config_and_a_hint() -> None:
    bf16 = parse(tensor("bf16", "openvino")["config.pbtxt"])
    assert bf16.parameters["HINT_BF16"].string_value == "YES"
    del bf16.parameters["HINT_BF16"]
    bf16.name = "mood_int8"
    assert bf16 == parse(tensor(engine="openvino")["config.pbtxt"])


def test_on_a_gpu_onnx_runtime_serves_whatever_serves_on_the_cpu() -> None:
    assert tensor(engine="openvino")["configs/gpu.pbtxt"] == tensor()["configs/gpu.pbtxt"]


def test_instances_of_openvino_share_its_threads() -> None:
    """Triton compiles the model once for all instances: each gets a stream, with its share of the threads."""
    config = parse(tensor(engine="openvino", instances=2, intra_op_threads=3)["config.pbtxt"])
    assert config.instance_group[0].count == 2
    assert (parameters(config)["INFERENCE_NUM_THREADS"], parameters(config)["NUM_STREAMS"]) == ("6", "2")


@pytest.mark.parametrize(("precision", "engine"), [("fp32", "openvino"), ("bf16", "onnxruntime"), ("int8", "torch")])
def test_an_engine_that_does_not_serve_the_precision_is_refused(precision: str, engine: str) -> None:
    with pytest.raises(UsageError, match=f"--engine: '{engine}' .* for {precision}"):
        tensor(precision, engine)


@pytest.mark.parametrize(("packed", "said"), [((), "false"), (("fp32",), "false"), (("fp32", "int8"), "true")])
def test_the_text_model_knows_whether_the_graph_it_calls_drops_padding(packed: tuple[str, ...], said: str) -> None:
    files = text(packed=packed)
    assert parameters(parse(files["configs/cpu.pbtxt"]))["packed"] == said
    assert parameters(parse(files["configs/gpu.pbtxt"]))["packed"] == "false"  # which calls fp16


def test_one_call_more_than_the_tensor_model_has_instances_is_in_flight() -> None:
    assert parameters(parse(text(ServingOptions(instances=3))["config.pbtxt"]))["calls_in_flight"] == "4"


def test_text_config() -> None:
    expected = """
        name: "mood"  backend: "bert_text"  max_batch_size: 64
        input { name: "TEXT" data_type: TYPE_STRING dims: 1 }
        output { name: "LABEL" data_type: TYPE_STRING dims: 1 }
        output { name: "SCORE" data_type: TYPE_FP32 dims: 1 }
        output { name: "PROBABILITIES" data_type: TYPE_FP32 dims: 3 }
        instance_group { kind: KIND_CPU count: 1 }
        version_policy { latest { num_versions: 1 } }
        dynamic_batching {}
        parameters { key: "task" value { string_value: "text-classification" } }
        parameters { key: "tensor_model" value { string_value: "mood_int8" } }
        parameters { key: "tensor_inputs" value { string_value: "input_ids,attention_mask" } }
        parameters { key: "tensor_output" value { string_value: "logits" } }
        parameters { key: "max_length" value { string_value: "256" } }
        parameters { key: "over_long_text" value { string_value: "error" } }
        parameters { key: "max_text_bytes" value { string_value: "100000" } }
        parameters { key: "max_tokens" value { string_value: "512" } }
        parameters { key: "packed" value { string_value: "false" } }
        parameters { key: "calls_in_flight" value { string_value: "2" } }
        parameters { key: "max_queue_size" value { string_value: "0" } }
        parameters { key: "queue_timeout_ms" value { string_value: "0" } }
        parameters { key: "cache_size" value { string_value: "10000" } }
        parameters { key: "pad_token_id" value { string_value: "1" } }
    """
    assert parse(text()["config.pbtxt"]) == parse(expected)


def test_tensor_config_on_gpu_differs_in_kind_and_threads_only() -> None:
    expected = parse(tensor()["configs/cpu.pbtxt"])
    expected.instance_group[0].kind = expected.instance_group[0].KIND_GPU
    expected.ClearField("parameters")
    assert parse(tensor()["configs/gpu.pbtxt"]) == expected


def test_text_config_on_gpu_differs_in_the_model_it_calls_and_its_tokens_only() -> None:
    expected = parse(text()["configs/cpu.pbtxt"])
    expected.parameters["tensor_model"].string_value = "mood_fp16"
    expected.parameters["max_tokens"].string_value = str(DEFAULT_MAX_TOKENS["gpu"])
    assert parse(text()["configs/gpu.pbtxt"]) == expected


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "FP32"), ("fp16", "FP16"), ("int8", None)])
def test_tensorrt_where_it_can_run_the_precision(precision: str, mode: str | None) -> None:
    files = tensor(precision, gpu_accelerator="tensorrt")
    accelerators = parse(files["configs/gpu.pbtxt"]).optimization.execution_accelerators.gpu_execution_accelerator
    found = {accelerator.name: dict(accelerator.parameters) for accelerator in accelerators}
    assert found == ({"tensorrt": {"precision_mode": mode}} if mode else {})
    assert not parse(files["configs/cpu.pbtxt"]).HasField("optimization")


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
@pytest.mark.parametrize("make", [tensor, lambda **options: text(ServingOptions(**options))])
def test_config_pbtxt_is_a_copy_of_the_chosen_variant(make: Any, hardware: str) -> None:
    files = make(hardware=hardware)
    assert set(files) == FILES
    assert files["config.pbtxt"] == files[f"configs/{hardware}.pbtxt"]


@pytest.mark.parametrize("files", [tensor(), text()])
def test_generated_files_say_so_in_their_first_line(files: dict[str, str]) -> None:
    for config in files.values():
        assert config.splitlines()[0] == "# generated by `python -m export`; do not edit"
        assert config.count("#") == 1


def test_the_same_request_gives_the_same_text() -> None:
    assert text() == text()
    assert tensor() == tensor()


def test_text_config_says_nothing_about_the_machine() -> None:
    assert text(ServingOptions(intra_op_threads=1)) == text(ServingOptions(intra_op_threads=64))


@pytest.mark.parametrize(
    ("option", "value", "read"),
    [
        ("max_batch_size", 128, lambda tensor, _: tensor.max_batch_size),
        ("text_max_batch_size", 16, lambda _, text: text.max_batch_size),
        ("instances", 2, lambda tensor, _: tensor.instance_group[0].count),
        ("text_instances", 2, lambda _, text: text.instance_group[0].count),
        ("intra_op_threads", 5, lambda tensor, _: int(parameters(tensor)["intra_op_thread_count"])),
        ("max_queue_size", 7, lambda _, text: int(parameters(text)["max_queue_size"])),
        ("queue_timeout_ms", 1500, lambda _, text: int(parameters(text)["queue_timeout_ms"])),
        ("max_queue_delay_us", 9, lambda _, text: text.dynamic_batching.max_queue_delay_microseconds),
        ("over_long_text", "truncate", lambda _, text: parameters(text)["over_long_text"]),
        ("max_text_bytes", 99, lambda _, text: int(parameters(text)["max_text_bytes"])),
        ("max_tokens", 99, lambda _, text: int(parameters(text)["max_tokens"])),
        ("cache_size", 0, lambda _, text: int(parameters(text)["cache_size"])),
    ],
)
def test_every_option_reaches_its_config(option: str, value: Any, read: Any) -> None:
    options = {option: value}
    got = parse(tensor(**options)["config.pbtxt"]), parse(text(ServingOptions(**options))["config.pbtxt"])
    assert read(*got) == value


def test_triton_keeps_no_queue_policy() -> None:
    """With one its batcher stalls requests; the text model keeps the bounds itself."""
    bounded = parse(text(ServingOptions(max_queue_size=7, queue_timeout_ms=1500))["config.pbtxt"])
    assert not bounded.dynamic_batching.HasField("default_queue_policy")


def test_tensor_models_hold_no_request_back_and_refuse_none() -> None:
    assert tensor(max_queue_delay_us=900, max_queue_size=3, queue_timeout_ms=5) == tensor()


@pytest.mark.parametrize(("cores", "instances", "threads"), [(1, 1, 1), (2, 2, 1), (3, 2, 1), (16, 2, 8)])
def test_two_instances_share_the_cores_by_default(
    cores: int, instances: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "available_cores", lambda: cores)
    options = ServingOptions()
    assert (options.instances_on("cpu"), options.cpu_threads, options.instances_on("gpu")) == (instances, threads, 1)
    files = text(options)
    called = {name: parameters(parse(files[f"configs/{name}.pbtxt"]))["calls_in_flight"] for name in ("cpu", "gpu")}
    assert called == {"cpu": str(instances + 1), "gpu": "2"}


@pytest.mark.parametrize("instances", [1, 2, 1000])
def test_threads_of_all_instances_fit_the_available_cores(instances: int) -> None:
    assert ServingOptions(instances=instances).cpu_threads == max(1, available_cores() // instances)


@pytest.mark.parametrize("option", [field for field in fields(ServingOptions) if field.metadata["minimum"] is not None])
@pytest.mark.parametrize("wrong", ["low", "high", "text", "fraction", "bool"])
def test_numbers_out_of_range_name_their_flag(option: Any, wrong: str) -> None:
    values = {"low": option.metadata["minimum"] - 1, "high": 2**31, "text": "1", "fraction": 1.5, "bool": True}
    with pytest.raises(UsageError) as caught:
        ServingOptions(**{option.name: values[wrong]})
    assert (caught.value.flag, caught.value.value) == (flag_of(option.name), values[wrong])
    assert f"from {option.metadata['minimum']} to" in str(caught.value)


@pytest.mark.parametrize("option", [field for field in fields(ServingOptions) if field.metadata["choices"]])
def test_words_that_are_no_choice_name_their_flag(option: Any) -> None:
    with pytest.raises(UsageError, match=f"{flag_of(option.name)}: 'banana' .* {option.metadata['choices'][0]} or"):
        ServingOptions(**{option.name: "banana"})


def test_a_text_batch_must_fit_the_tensor_model() -> None:
    with pytest.raises(UsageError, match=r"--text-max-batch-size: 65 .* at most --max-batch-size \(64\)"):
        ServingOptions(text_max_batch_size=65)


def test_a_smaller_tensor_batch_makes_the_text_batch_smaller() -> None:
    assert parse(text(ServingOptions(max_batch_size=8))["config.pbtxt"]).max_batch_size == 8


def flags(*given: str) -> ServingOptions:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    serving.add_arguments(parser)
    return serving.from_arguments(parser.parse_args(given))


def test_without_flags_the_defaults_hold() -> None:
    assert flags() == ServingOptions()


@pytest.mark.parametrize("option", fields(ServingOptions))
def test_every_option_has_its_flag(option: Any) -> None:
    value = option.metadata["choices"][-1] if option.metadata["choices"] else 3
    assert flags(flag_of(option.name), str(value)) == replace(ServingOptions(), **{option.name: value})


def test_flags_show_their_defaults_in_the_help() -> None:
    parser = argparse.ArgumentParser()
    serving.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "--cache-size N texts whose answers the text model remembers; 0 = none (default: 10000)" in text
    assert text.count("(default: ") == len(fields(ServingOptions))


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"task": "text-generation"}, "--task"),
        ({"inputs": ("attention_mask", "input_ids")}, "inputs"),
        ({"inputs": ()}, "inputs"),
        ({"inputs": ("pixels",)}, "inputs"),
        ({"labels": []}, "labels"),
        ({"served": {"cpu": "int8"}}, "served"),
        ({"served": {"cpu": "int8", "gpu": "int3"}}, "served"),
        ({"max_length": 2}, "--max-length"),
        ({"pad_token_id": -1}, "pad_token_id"),
    ],
)
def test_requests_that_cannot_be_are_refused(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        text(**changes)
    assert caught.value.flag == flag


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--precision: 'int3' .* fp32 \| fp16 \| bf16 \| int8$"):
        tensor("int3")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "ä", "-x", "x" * 201, "a\n"])
def test_a_name_must_be_a_folder_and_a_part_of_a_url(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        tensor_configs(name, "fp32", task="text-classification", inputs=THREE, labels=LABELS, options=ServingOptions())


BATCHING = ModelDynamicBatching()
IDS = Tensor("input_ids", "TYPE_INT64", (-1,))
SOUND: dict[str, Any] = {
    "name": "x",
    "backend": "onnxruntime",
    "max_batch_size": 1,
    "input": (IDS,),
    "output": (Tensor("logits", "TYPE_FP32", (2,)),),
    "instance_group": ModelInstanceGroup(1, "KIND_CPU"),
    "dynamic_batching": BATCHING,
    "latest_versions": 1,
}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Tensor("", "TYPE_FP32", (1,)), "name"),
        (lambda: Tensor("x", "FP32", (1,)), "data_type"),
        (lambda: Tensor("x", "TYPE_FP32", (0,)), "dims"),
        (lambda: Tensor("x", "TYPE_FP32", (-2,)), "dims"),
        (lambda: ModelInstanceGroup(0, "KIND_CPU"), "count"),
        (lambda: ModelInstanceGroup(1, "cpu"), "kind"),
        (lambda: ModelDynamicBatching(-1), "max_queue_delay_microseconds"),
        (lambda: ModelConfig(**{**SOUND, "max_batch_size": 0}), "max_batch_size"),
        (lambda: ModelConfig(**{**SOUND, "dynamic_batching": None, "max_batch_size": -1}), "max_batch_size"),
        (lambda: ModelConfig(**{**SOUND, "latest_versions": 0}), "num_versions"),
        (lambda: ModelConfig(**{**SOUND, "input": (IDS, IDS)}), "input"),
        (lambda: ModelConfig(**{**SOUND, "output": ()}), "output"),
        (lambda: ModelConfig(**{**SOUND, "gpu_execution_accelerator": Accelerator("x")}), "gpu_execution_accelerator"),
    ],
)
def test_messages_that_cannot_be_are_refused(make: Any, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.flag == field


def test_any_string_survives_being_written() -> None:
    awkward = 'quote " backslash \\ newline \n unicode é 许'
    message = ModelConfig(**{**SOUND, "parameters": (("awkward", awkward),)}).to_text()
    assert parameters(parse(message)) == {"awkward": awkward}


def test_what_is_no_config_names_its_file() -> None:
    with pytest.raises(RepositoryError, match=r"models/x/config\.pbtxt is not a model config of Triton: 2:1"):
        parse("name: 'x'\nnonsense", "models/x/config.pbtxt")


def test_signature_is_tensors_datatypes_and_dims() -> None:
    assert signature(parse(text()["config.pbtxt"])) == {
        "TEXT": ("TYPE_STRING", [1]),
        "LABEL": ("TYPE_STRING", [1]),
        "SCORE": ("TYPE_FP32", [1]),
        "PROBABILITIES": ("TYPE_FP32", [3]),
    }


def test_signature_is_that_of_a_request_whatever_the_engine() -> None:
    assert signature(parse(tensor(engine="openvino")["config.pbtxt"])) == signature(parse(tensor()["config.pbtxt"]))


def test_serving_the_latest_only_changes_nothing_else() -> None:
    before = tensor()["config.pbtxt"]
    expected = parse(before)
    expected.version_policy.latest.num_versions = 1
    after = serve_latest_only(before)
    assert parse(after) == expected
    assert after.startswith("# generated by")


def test_only_fields_that_this_triton_knows_are_written() -> None:
    """Triton 2.51's protobuf is older than the client's; these are the fields of the configs it has loaded."""
    known = {"name", "backend", "version_policy", "max_batch_size", "input", "output", "instance_group"}
    known |= {"dynamic_batching", "parameters", "default_model_filename", "model_warmup", "optimization"}
    for files in (tensor("fp16", gpu_accelerator="tensorrt"), tensor("bf16", "openvino"), text()):
        for config in files.values():
            message = text_format.Parse(config, Message())
            assert {descriptor.name for descriptor, _ in message.ListFields()} <= known
