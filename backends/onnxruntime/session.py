"""From a model's config to an ONNX Runtime session: file, options, threads; providers are `providers`' business."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import onnxruntime

from .errors import LoadError
from .parameters import boolean, integer, string
from .providers import CPU_PROVIDER, providers

MODEL_FILE = "model.onnx"

# optimization.graph.level -> ONNX Runtime; every other level is ORT_ENABLE_ALL.
GRAPH_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

EXECUTION_MODES = {
    0: onnxruntime.ExecutionMode.ORT_SEQUENTIAL,
    1: onnxruntime.ExecutionMode.ORT_PARALLEL,
}


def model_path(folder: Path, config: dict[str, Any]) -> Path:
    """The ONNX file of a version folder.

    Raises:
        LoadError: there is none.
    """
    path = folder / (config.get("default_model_filename") or MODEL_FILE)
    if path.is_dir():
        path /= MODEL_FILE
    if not path.is_file():
        raise LoadError(f"unable to find '{path}'")
    return path


def session_options(config: dict[str, Any]) -> onnxruntime.SessionOptions:
    """Session options as the config says; what it does not say stays ONNX Runtime's default.

    Raises:
        LoadError: a parameter is not of its type or range.
    """
    options = onnxruntime.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_LEVELS.get(level, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = _integer(config, "execution_mode")
    if mode not in EXECUTION_MODES:
        raise LoadError(f"parameter execution_mode is {mode}; expected 0 (sequential) or 1 (parallel)")
    options.execution_mode = EXECUTION_MODES[mode]
    options.intra_op_num_threads = max(0, _integer(config, "intra_op_thread_count"))
    options.inter_op_num_threads = max(0, _integer(config, "inter_op_thread_count"))
    for key, attribute in (("enable_mem_arena", "enable_cpu_mem_arena"), ("enable_mem_pattern", "enable_mem_pattern")):
        value = string(config, key)
        if value is not None:
            setattr(options, attribute, boolean(value, key))
    key = "session.use_device_allocator_for_initializers"
    value = string(config, key)
    if value is not None:
        options.add_session_config_entry(key, value)
    return options


def run_options(config: dict[str, Any]) -> onnxruntime.RunOptions:
    """Options of every run."""
    options = onnxruntime.RunOptions()
    key = "memory.enable_memory_arena_shrinkage"
    value = string(config, key)
    if value is not None:
        options.add_run_config_entry(key, value)
    return options


def create_session(path: Path, config: dict[str, Any], kind: str, device_id: int) -> onnxruntime.InferenceSession:
    """The session of one instance.

    Raises:
        LoadError: the config asks for what is not there, or ONNX Runtime cannot load the file.
    """
    _silence_telemetry()
    chosen = providers(config, kind, device_id, onnxruntime.get_available_providers())
    said = "" if chosen == [CPU_PROVIDER] else _load_cuda()
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(config), providers=chosen)
    except LoadError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common root
        raise LoadError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error
    # Without this a provider that fails is replaced, and everything starts anew, in the middle of a request.
    session.disable_fallback()
    wanted = [provider if isinstance(provider, str) else provider[0] for provider in chosen]
    missing = [name for name in wanted if name not in session.get_providers()]
    if missing:
        raise LoadError(
            f"ONNX Runtime {onnxruntime.__version__} has {', '.join(missing)} but could not start it (CUDA or "
            "TensorRT libraries missing, or no such device); the lines before this one in the log say more"
            + (f". {said}" if said else "")
        )
    return session


def _integer(config: dict[str, Any], key: str) -> int:
    value = string(config, key)
    return 0 if value is None else integer(value, key)


def _load_cuda() -> str:
    """Loads the CUDA and cuDNN libraries of NVIDIA's pip packages, which no search path leads to; says what failed.

    Does nothing where there are none of them, and in an ONNX Runtime that is built without CUDA.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is None:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        preload()
    return " ".join(said.getvalue().split())


def _silence_telemetry() -> None:
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
