"""Parameters of a config.pbtxt to OpenVINO's properties, as the C++ backend reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.openvino.errors import LoadError, reason
from backends.openvino.parameters import Parameters, instance_count, shared_among


def config(**parameters: str) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}


def properties(**parameters: str) -> dict[str, Any]:
    return Parameters.of(config(**parameters)).properties


def test_says_nothing_sets_nothing() -> None:
    read = Parameters.of({})
    assert read.properties == {}
    assert not read.cpu_extension_path
    assert not (read.skip_dynamic_batch_size or read.batch_padding or read.reshape_io_layers)
    assert Parameters.of(config(INFERENCE_NUM_THREADS="", TARGET_DEVICE="", task="text-classification")) == read


def test_every_parameter() -> None:
    read = Parameters.of(
        config(
            INFERENCE_NUM_THREADS="4",
            COMPILATION_NUM_THREADS="2",
            NUM_STREAMS="2",
            PERFORMANCE_HINT="latency",
            HINT_BF16="Yes",
            CPU_EXTENSION_PATH="/kernels.so",
            TARGET_DEVICE="cpu",
            SKIP_OV_DYNAMIC_BATCHSIZE="YES",
            ENABLE_BATCH_PADDING="yes",
            RESHAPE_IO_LAYERS="Yes",
        )
    )
    assert read.properties == {
        "INFERENCE_NUM_THREADS": 4,
        "COMPILATION_NUM_THREADS": 2,
        "INFERENCE_PRECISION_HINT": "bf16",
        "NUM_STREAMS": 2,
        "PERFORMANCE_HINT": "LATENCY",
    }
    assert read.cpu_extension_path == "/kernels.so"
    assert read.skip_dynamic_batch_size
    assert read.batch_padding
    assert read.reshape_io_layers


@pytest.mark.parametrize("word", ["auto", "NUMA"])
def test_streams_by_word(word: str) -> None:
    assert properties(NUM_STREAMS=word) == {"NUM_STREAMS": word.upper()}


@pytest.mark.parametrize("word", ["true", "1", "on", "no"])
def test_anything_but_yes_is_off(word: str) -> None:
    assert not Parameters.of(config(ENABLE_BATCH_PADDING=word)).batch_padding


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"INFERENCE_NUM_THREADS": "-1"}, "'INFERENCE_NUM_THREADS' to be a non-negative number, got -1"),
        ({"COMPILATION_NUM_THREADS": "two"}, "'COMPILATION_NUM_THREADS' to be a non-negative number, got two"),
        ({"INFERENCE_NUM_THREADS": "²"}, "non-negative number"),
        ({"NUM_STREAMS": "many"}, "'NUM_STREAMS' to be either AUTO/NUMA/<int_value>, got many"),
        ({"PERFORMANCE_HINT": "SPEED"}, "to be LATENCY/THROUGHPUT/CUMULATIVE_THROUGHPUT, got SPEED"),
        ({"HINT_BF16": "NO"}, "'HINT_BF16' to be YES, got NO"),
        ({"TARGET_DEVICE": "GPU"}, "TARGET_DEVICE is GPU; this stand-in runs on the CPU only"),
        ({"TARGET_DEVICE": "AUTO"}, "TARGET_DEVICE is AUTO"),
    ],
)
def test_refuses(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        Parameters.of(config(**parameters))


def test_instances_are_counted_over_all_groups() -> None:
    assert instance_count({}) == 1
    assert instance_count({"instance_group": [{"count": 2}, {"count": 1}, {}]}) == 4


def test_a_lone_instance_has_what_the_config_says() -> None:
    given = properties(NUM_STREAMS="AUTO", PERFORMANCE_HINT="THROUGHPUT")
    assert shared_among(given, 1, cores=8) == given


@pytest.mark.parametrize(
    ("threads", "streams", "instances", "expected"),
    [
        ("8", "4", 4, 2),  # each stream of C++ serves one instance
        ("8", "4", 2, 2),  # two of the four streams are in use
        ("8", "1", 4, 2),  # instances that would wait for one another get a share each
        ("2", "1", 4, 1),
        ("0", "1", 2, 8),  # 0 is all cores
        (None, None, 2, 8),
        (None, "AUTO", 4, 4),
    ],
)
def test_several_instances_share_the_threads(
    threads: str | None, streams: str | None, instances: int, expected: int
) -> None:
    said = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
    given = properties(**{key: value for key, value in said.items() if value is not None})
    shared = shared_among(given, instances, cores=16)
    assert shared == {"INFERENCE_NUM_THREADS": expected, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}


@given(st.integers(1, 64), st.integers(1, 64), st.integers(2, 64))
def test_instances_together_never_have_more_threads_than_the_config_says(
    threads: int, streams: int, instances: int
) -> None:
    shared = shared_among({"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}, instances, cores=64)
    assert shared["INFERENCE_NUM_THREADS"] * instances <= max(threads, instances)


def test_the_reason_of_an_exception_is_one_line_without_places() -> None:
    error = RuntimeError(
        "Exception from src/inference/src/cpp/core.cpp:84:\nException from src/reader.cpp:148:\n  Unable to read.\n\n"
        "Check the file.\n\n"
    )
    assert reason(error) == "Unable to read. Check the file."
