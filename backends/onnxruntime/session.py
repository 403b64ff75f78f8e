"""From a model's config to an ONNX Runtime session: file, options, threads, execution providers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from .errors import LoadError
from .parameters import boolean, integer, string

MODEL_FILE = "model.onnx"

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"

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

# Parameters of the tensorrt accelerator that have another name in ONNX Runtime; the rest start with trt_ in both.
TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
TENSORRT_PRECISIONS = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}

# Deprecated CUDA parameters that are still read: their numbers, by position.
CUDA_CHOICES = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}
CUDA_STRINGS = ("gpu_mem_limit", "do_copy_in_default_stream")

Provider = "str | tuple[str, dict[str, str]]"


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


def providers(config: dict[str, Any], kind: str, device_id: int, available: Sequence[str]) -> list[Any]:
    """Execution providers of an instance, first choice first.

    Args:
        config: the model config.
        kind: of the instance: ``CPU`` or ``GPU`` (``AUTO`` is taken for a GPU where there is one).
        device_id: of the instance's GPU.
        available: providers that this ONNX Runtime is built with.

    Raises:
        LoadError: the config asks for what is not there.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        raise LoadError(
            f"unknown Execution Accelerator '{accelerator.get('name')}' is requested for the CPU; this stand-in has "
            "none (NVIDIA's container has openvino); remove it from optimization.execution_accelerators"
        )
    on_gpu = kind == "GPU" or (kind == "AUTO" and CUDA_PROVIDER in available)
    if not on_gpu:
        return [CPU_PROVIDER]
    if CUDA_PROVIDER not in available:
        raise LoadError(
            f"the instance is of KIND_GPU, but this ONNX Runtime has only {', '.join(available)}; install "
            "onnxruntime-gpu instead of onnxruntime, or use a config with KIND_CPU"
        )
    cuda = _cuda_options(config, device_id)
    chosen: list[Any] = []
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        name, parameters = accelerator.get("name"), accelerator.get("parameters", {})
        if name == "cuda":
            cuda.update({key: str(value) for key, value in parameters.items() if value})
        elif name == "tensorrt":
            chosen.append(_tensorrt(parameters, device_id, available))
        else:
            raise LoadError(f"unknown Execution Accelerator '{name}' is requested; a GPU instance takes cuda, tensorrt")
    return [*chosen, (CUDA_PROVIDER, cuda), CPU_PROVIDER]


def create_session(path: Path, config: dict[str, Any], kind: str, device_id: int) -> onnxruntime.InferenceSession:
    """The session of one instance.

    Raises:
        LoadError: the config asks for what is not there, or ONNX Runtime cannot load the file.
    """
    _silence_telemetry()
    chosen = providers(config, kind, device_id, onnxruntime.get_available_providers())
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
        )
    return session


def _integer(config: dict[str, Any], key: str) -> int:
    value = string(config, key)
    return 0 if value is None else integer(value, key)


def _cuda_options(config: dict[str, Any], device_id: int) -> dict[str, str]:
    options = {"device_id": str(device_id)}
    for key, choices in CUDA_CHOICES.items():
        value = string(config, key)
        if value is not None:
            number = integer(value, key)
            if not 0 <= number < len(choices):
                raise LoadError(f"parameter {key} is {number}; expected 0 to {len(choices) - 1} ({', '.join(choices)})")
            options[key] = choices[number]
    for key in CUDA_STRINGS:
        value = string(config, key)
        if value is not None:
            options[key] = value
    return options


def _tensorrt(parameters: dict[str, str], device_id: int, available: Sequence[str]) -> tuple[str, dict[str, str]]:
    if TENSORRT_PROVIDER not in available:
        raise LoadError(f"accelerator tensorrt is requested, but this ONNX Runtime has only {', '.join(available)}")
    options = {"device_id": str(device_id)}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in TENSORRT_PRECISIONS:
                raise LoadError(f"unsupported precision mode '{value}'; expected {', '.join(TENSORRT_PRECISIONS)}")
            options.update(TENSORRT_PRECISIONS[value])
        elif key in TENSORRT_NAMES or key.startswith("trt_"):
            options[TENSORRT_NAMES.get(key, key)] = str(value)
        else:
            raise LoadError(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")
    return TENSORRT_PROVIDER, options


def _silence_telemetry() -> None:
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
