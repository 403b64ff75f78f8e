"""What configs say of a model: which input is for what, its shapes, and its settings in words. No server."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter

from bert_triton_client import errors
from bert_triton_client.answers import ModelInfo, TensorInfo
from loadtest.cell import TensorNames
from loadtest.errors import TargetError, UsageError
from loadtest.target import Target, roles, setting, settings, shapes
from loadtest.target.faults import explained
from tests.unit.loadtest_replies import tensor_target, text_target


def ints(*names: str, datatype: str = "INT64", optional: bool = False) -> list[TensorInfo]:
    return [TensorInfo(name, datatype, (-1,), optional) for name in names]


def strings(*names: str) -> list[TensorInfo]:
    return [TensorInfo(name, "BYTES", (1,)) for name in names]


def assigned(inputs: list[TensorInfo], **names: Any) -> dict[str, str]:
    return {role: one.name for role, one in roles.assign("m", inputs, TensorNames(**names)).items()}


# --- Roles ---


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (strings("TEXT"), {"text": "TEXT"}),
        (strings("QUERY"), {"text": "QUERY"}),
        (
            ints("input_ids", "attention_mask", "token_type_ids"),
            {"input_ids": "input_ids", "attention_mask": "attention_mask", "token_type_ids": "token_type_ids"},
        ),
        (
            ints("input_ids", "segment_ids", "input_mask", datatype="INT32"),
            {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"},
        ),
        (ints("Input-IDs:0", "mask"), {"input_ids": "Input-IDs:0", "attention_mask": "mask"}),
        (ints("tokens"), {"input_ids": "tokens"}),
        (ints("input__0"), {"input_ids": "input__0"}),  # nothing else it could be
        (strings("TEXT") + ints("beam", optional=True), {"text": "TEXT"}),
        (ints("ids") + ints("position_ids", optional=True), {"input_ids": "ids"}),
        (ints("ids") + ints("mask", optional=True), {"input_ids": "ids", "attention_mask": "mask"}),
    ],
)
def test_inputs_are_known_by_their_usual_names(inputs: list[TensorInfo], expected: dict[str, str]) -> None:
    assert assigned(inputs) == expected


def test_given_names_win() -> None:
    inputs = ints("input__0", "input__1", "input__2")
    given = {"input_ids": "input__0", "token_type_ids": "input__1", "attention_mask": "input__2"}
    assert assigned(inputs, **given) == given
    assert assigned(ints("ids", "mask"), input_ids="mask", attention_mask="ids") == {
        "input_ids": "mask",
        "attention_mask": "ids",
    }
    both = [*strings("TEXT", "OTHER")]
    both[0] = TensorInfo("TEXT", "BYTES", (1,), optional=True)
    assert assigned(both, text="OTHER") == {"text": "OTHER"}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            ints("input__0", "input__1"),
            r"input__0 \(INT64 \[-1\]\), input__1 .* of unknown use.*--input-ids-tensor, --attention-mask-tensor",
        ),
        (ints("input_ids", "position_ids"), r"input position_ids \(INT64 \[-1\]\) is of unknown use"),
        (strings("TEXT", "CONTEXT"), r"input CONTEXT \(BYTES \[1\]\) is of unknown use"),
        (strings("QUESTION", "CONTEXT"), r"inputs QUESTION .*, CONTEXT .* are of unknown use.*--text-tensor"),
        (ints("mask"), "which input takes text or token ids"),
        ([TensorInfo("image", "FP32", (3, 224, 224))], r"image \(FP32 \[3, 224, 224\]\)"),
        ([TensorInfo("input_ids", "FP32", (-1,))], r"input_ids \(FP32 \[-1\]\) is of unknown use"),
        ([], "no inputs"),
    ],
)
def test_what_stays_unknown_is_named_with_the_flags_that_help(inputs: list[TensorInfo], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        # A lone mask is the only integer input, but its name says that it is no ids.
        assigned(inputs)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"input_ids": "nope"}, r"--input-ids-tensor nope: model 'm' has no such input; it has ids \(INT64 \[-1\]\)"),
        ({"text": "ids"}, r"--text-tensor ids: .* is INT64, expected BYTES"),
        ({"attention_mask": "words"}, r"--attention-mask-tensor words: .* is BYTES, expected INT32 or INT64"),
        ({"input_ids": "ids", "token_type_ids": "ids"}, "--token-type-ids-tensor ids: the same input"),
        ({"input_ids": "ids", "text": "words"}, "take one"),
    ],
)
def test_given_names_that_cannot_be(names: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assigned(ints("ids") + strings("words"), **names)


# --- Shapes ---


@pytest.mark.parametrize(
    ("dims", "role", "max_batch_size"), [((2,), "text", 8), ((-1, 2), "text", 0), ((8, 128), "input_ids", 4)]
)
def test_rows_of_more_than_one_text_or_line_are_refused(dims: tuple[int, ...], role: str, max_batch_size: int) -> None:
    with pytest.raises(TargetError, match="expected rows of one"):
        shapes.check_row("x", dims, role, max_batch_size)


def test_rows_of_different_fixed_lengths_are_refused() -> None:
    inputs = [("ids", (128,), "input_ids"), ("mask", (64,), "attention_mask")]
    with pytest.raises(TargetError, match="ids 128, mask 64"):
        shapes.fixed_length(inputs, 8)
    assert shapes.fixed_length([*inputs[:1], ("mask", (-1,), "attention_mask")], 8) == 128


# --- Settings ---


def info(name: str, **config: Any) -> ModelInfo:
    rows = {"name": name, "max_batch_size": 64, "instance_group": [{"kind": "KIND_CPU", "count": 1}], **config}
    return ModelInfo.from_config(rows)


def parameters(**values: str) -> Mapping[str, Any]:
    return {key: {"string_value": value} for key, value in values.items()}


def test_a_text_models_settings_are_its_own_and_its_tensor_models() -> None:
    text = info("sentiment", dynamic_batching={}, parameters=parameters(cache_size="10000"))
    tensor = info("sentiment_int8", dynamic_batching={}, parameters=parameters(intra_op_thread_count="2"))
    assert settings.instances(text, tensor) == "1 x KIND_CPU; sentiment_int8: 1 x KIND_CPU, 2 threads"
    assert settings.batching(text, tensor) == "dynamic, no queue delay, max_batch_size 64"
    assert settings.cache(text, tensor) == "text cache of 10000"
    assert settings.batching(text, info("sentiment_int8")) == (
        "dynamic, no queue delay, max_batch_size 64; sentiment_int8: none"
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "none"),
        ({"dynamic_batching": {"max_queue_delay_microseconds": "1500"}}, "queue delay 1.5 ms, max_batch_size 64"),
        ({"dynamic_batching": {"preferred_batch_size": [64]}}, "dynamic, no queue delay, max_batch_size 64"),
        ({"dynamic_batching": {"preferred_batch_size": [4, 8]}}, "max_batch_size 64, preferred 4, 8"),
        ({"dynamic_batching": {"default_queue_policy": {"max_queue_size": 9}}}, "max_batch_size 64, queue policy"),
    ],
)
def test_batching_in_words(config: dict[str, Any], said: str) -> None:
    words = settings.batching(info("m", **config), None)
    assert words.endswith(said)
    assert ("queue policy" in words) == ("queue policy" in said)


def test_instances_of_gpus_and_ensembles_in_words() -> None:
    groups = [{"kind": "KIND_GPU", "count": 2, "gpus": [0, 1]}, {"kind": "KIND_CPU", "count": "3"}]
    assert settings.instances(info("m", instance_group=groups), None) == "2 x KIND_GPU on GPU 0, 1 + 3 x KIND_CPU"
    steps = {"step": [{"model_name": "tokenizer"}, {"model_name": "bert_fp16"}]}
    ensemble = info("bert", ensemble_scheduling=steps, instance_group=[])
    assert settings.instances(ensemble, None) == "ensemble of tokenizer, bert_fp16"
    assert settings.precision("bert", ensemble, None) == "fp16"


@pytest.mark.parametrize(
    ("model", "tensor_model", "precision"),
    [
        ("sentiment", "sentiment_int8", "int8"),
        ("sentiment_fp32", None, "fp32"),
        ("x_bf16", None, "bf16"),
        ("x_fp16", None, "fp16"),
        ("fp16", None, ""),
        ("bert", None, ""),
        ("bert", "tensors", ""),
    ],
)
def test_precision_is_what_names_say(model: str, tensor_model: str | None, precision: str) -> None:
    assert settings.precision(model, None, tensor_model) == precision


def test_response_caches_of_either_model_may_answer() -> None:
    cached, plain = info("a", response_cache={"enable": True}), info("b")
    assert settings.cache(cached, None) == settings.cache(plain, cached) == "response cache"
    assert settings.cache(plain, None) == settings.cache(None, None) == ""
    assert settings.cache(info("a", parameters=parameters(cache_size="0")), None) == ""


# --- The target itself ---


@pytest.mark.parametrize("target", [text_target(), tensor_target()])
def test_targets_travel_as_json(target: Target) -> None:
    adapter = TypeAdapter(Target)
    assert adapter.validate_json(adapter.dump_json(target)) == target


def test_a_rows_setting_is_the_targets() -> None:
    made = setting(text_target(), hardware="a toaster", lengths="words: 5 each")
    assert (made.hardware, made.lengths, made.kind, made.served_version) == ("a toaster", "words: 5 each", "text", "1")


@pytest.mark.parametrize("name", [n for n in dir(errors) if n.endswith("Error")])
def test_every_error_of_the_client_becomes_words_that_keep_its_message(name: str) -> None:
    error = explained("grpc://h:1", getattr(errors, name)("the cause"))
    assert "the cause" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
