"""config.pbtxt of a tensor model to ONNX Runtime's options, as the C++ backend reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from backends.onnxruntime.errors import LoadError
from backends.onnxruntime.session import model_path, run_options, session_options


def config(**parameters: str) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (-1, "ORT_ENABLE_BASIC"),
        (0, "ORT_ENABLE_ALL"),
        (1, "ORT_ENABLE_EXTENDED"),
        (2, "ORT_DISABLE_ALL"),
        (7, "ORT_ENABLE_ALL"),
    ],
)
def test_graph_level(level: int, expected: str) -> None:
    options = session_options({"optimization": {"graph": {"level": level}}})
    assert options.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, expected)


def test_says_nothing_changes_nothing() -> None:
    given, default = session_options({}), onnxruntime.SessionOptions()
    for name in ("enable_cpu_mem_arena", "enable_mem_pattern", "execution_mode", "intra_op_num_threads"):
        assert getattr(given, name) == getattr(default, name)
    assert given.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_threads_and_mode() -> None:
    options = session_options(config(intra_op_thread_count="3", inter_op_thread_count="2", execution_mode="1"))
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL


def test_a_thread_count_below_1_is_the_default() -> None:
    assert session_options(config(intra_op_thread_count="-1")).intra_op_num_threads == 0


@pytest.mark.parametrize("key", ["enable_mem_arena", "enable_mem_pattern"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("On", True), ("1", True), ("FALSE", False), ("off", False), ("0", False)],
)
def test_booleans(key: str, value: str, expected: bool) -> None:
    attribute = {"enable_mem_arena": "enable_cpu_mem_arena"}.get(key, key)
    assert getattr(session_options(config(**{key: value})), attribute) is expected


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"enable_mem_arena": "yes"}, "enable_mem_arena is 'yes'; expected one of true, on, 1, false, off, 0"),
        ({"enable_mem_pattern": ""}, "enable_mem_pattern is ''"),
        ({"intra_op_thread_count": "two"}, "intra_op_thread_count is 'two'; expected a whole number"),
        ({"execution_mode": "2"}, "execution_mode is 2; expected 0"),
    ],
)
def test_refuses_parameters(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        session_options(config(**parameters))


def test_ignores_other_parameters() -> None:
    session_options(config(task="text-classification", cache_size="many"))


def test_arena_shrinkage_is_an_option_of_the_run() -> None:
    key = "memory.enable_memory_arena_shrinkage"
    assert run_options(config(**{key: "cpu:0"})).get_run_config_entry(key) == "cpu:0"


def test_model_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"unable to find '.*model.onnx'"):
        model_path(tmp_path, {"default_model_filename": ""})
    (tmp_path / "other.onnx").touch()
    assert model_path(tmp_path, {"default_model_filename": "other.onnx"}) == tmp_path / "other.onnx"
    (tmp_path / "model.onnx").mkdir()
    (tmp_path / "model.onnx" / "model.onnx").touch()
    assert model_path(tmp_path, {}) == tmp_path / "model.onnx" / "model.onnx"
