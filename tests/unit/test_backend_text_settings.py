"""config.pbtxt of a text model: what is read, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from backends.bert_text.settings import Settings, SettingsError

PARAMETERS = {
    "task": "text-classification",
    "tensor_model": "sentiment_int8",
    "tensor_inputs": "input_ids,attention_mask",
    "max_length": "128",
    "pad_token_id": "1",
}


def config(*, max_batch_size: int = 64, **parameters: str | None) -> dict[str, Any]:
    merged = {key: value for key, value in {**PARAMETERS, **parameters}.items() if value is not None}
    return {
        "name": "sentiment",
        "max_batch_size": max_batch_size,
        "parameters": {key: {"string_value": value} for key, value in merged.items()},
    }


def test_reads_types_and_defaults() -> None:
    settings = Settings.from_model_config(config())
    assert settings.task.name == "text-classification"
    assert settings.tensor_inputs == ("input_ids", "attention_mask")
    assert (settings.max_length, settings.pad_token_id, settings.max_batch_size) == (128, 1, 64)
    assert (settings.tensor_output, settings.over_long_text, settings.activation) == ("logits", "error", None)
    assert (settings.max_text_bytes, settings.max_tokens, settings.cache_size) == (100_000, 512, 10_000)
    assert (settings.packed, settings.calls_in_flight) == (False, 2)
    assert (settings.max_queue_size, settings.queue_timeout_ms) == (0, 0)


def test_reads_the_queue_and_the_graph() -> None:
    read = Settings.from_model_config(
        config(packed="true", calls_in_flight="3", max_queue_size="100", queue_timeout_ms="500")
    )
    assert (read.packed, read.calls_in_flight, read.max_queue_size, read.queue_timeout_ms) == (True, 3, 100, 500)


def test_cache_can_be_off() -> None:
    assert Settings.from_model_config(config(cache_size="0")).cache_size == 0


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"task": "summarization"}, "'summarization'; this bert_text serves text-classification"),
        ({"task": None}, "task is missing"),
        ({"tensor_model": None}, "tensor_model is missing"),
        ({"tensor_model": "sentiment"}, "the text model itself"),
        ({"tensor_inputs": "attention_mask"}, "expected input_ids"),
        ({"tensor_inputs": "input_ids,position_ids"}, "expected input_ids"),
        ({"tensor_inputs": "input_ids,input_ids"}, "at most once"),
        ({"max_length": None}, "max_length is missing"),
        ({"max_length": "many"}, "'many'; expected a whole number"),
        ({"max_length": "0"}, "at least 1"),
        ({"pad_token_id": "-1"}, "at least 0"),
        ({"cache_size": "-1"}, "at least 0"),
        ({"packed": "yes"}, "'yes'; expected true or false"),
        ({"calls_in_flight": "0"}, "at least 1"),
        ({"max_queue_size": "-1"}, "at least 0"),
        ({"queue_timeout_ms": "soon"}, "expected a whole number"),
        ({"over_long_text": "ignore"}, "expected one of error, truncate"),
        ({"activation": "relu"}, "expected one of none, sigmoid, softmax"),
        ({"max_lenght": "128"}, "unknown parameter max_lenght"),
    ],
)
def test_refuses(parameters: dict[str, str | None], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.from_model_config(config(**parameters))


def test_refuses_a_model_without_batches() -> None:
    with pytest.raises(SettingsError, match="max_batch_size is 0"):
        Settings.from_model_config(config(max_batch_size=0))


def test_leaves_the_python_backends_own_parameters_alone() -> None:
    Settings.from_model_config(config(FORCE_CPU_ONLY_INPUT_TENSORS="yes"))
