"""Execution providers of an instance, with their options, as the C++ backend reads them from the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import LoadError
from .parameters import boolean, integer, string

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"

Provider = "str | tuple[str, dict[str, str]]"


def _text(value: str, key: str) -> str:  # noqa: ARG001 the signature of `boolean` and `integer`
    return value


# Deprecated CUDA parameters that are still read: their numbers, by position.
CUDA_CHOICES = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}
CUDA_STRINGS = ("gpu_mem_limit", "do_copy_in_default_stream")
CUDA_BOOLEANS = ("do_copy_in_default_stream", "use_ep_level_unified_stream")

# A captured CUDA graph reads its inputs where they lay when it was captured. The C++ backend binds every batch where
# it happens to lie, so a replay would answer with an old batch's inputs:
# https://github.com/microsoft/onnxruntime/issues/20050. docs/gpu.md says what to do instead.
CUDA_GRAPH_KEYS = ("enable_cuda_graph", "trt_cuda_graph_enable")

# Parameters of the tensorrt accelerator that have another name in ONNX Runtime; the rest have the same.
TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
TENSORRT_PRECISIONS = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "BF16": {"trt_bf16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}
# Every other parameter that the C++ backend knows, and what it checks of it.
TENSORRT_PARAMETERS: dict[str, Callable[[str, str], object]] = {
    "int8_calibration_table_name": _text,
    "int8_use_native_calibration_table": boolean,
    "max_workspace_size_bytes": integer,
    "trt_auxiliary_streams": integer,
    "trt_build_heuristics_enable": boolean,
    "trt_builder_optimization_level": integer,
    "trt_context_memory_sharing_enable": boolean,
    "trt_cuda_graph_enable": boolean,
    "trt_detailed_build_log": boolean,
    "trt_dla_core": integer,
    "trt_dla_enable": boolean,
    "trt_dump_ep_context_model": boolean,
    "trt_dump_subgraphs": boolean,
    "trt_engine_cache_enable": boolean,
    "trt_engine_cache_path": _text,
    "trt_engine_cache_prefix": _text,
    "trt_ep_context_embed_mode": integer,
    "trt_ep_context_file_path": _text,
    "trt_extra_plugin_lib_paths": _text,
    "trt_force_sequential_engine_build": boolean,
    "trt_force_timing_cache": boolean,
    "trt_layer_norm_fp32_fallback": boolean,
    "trt_max_partition_iterations": integer,
    "trt_min_subgraph_size": integer,
    "trt_profile_max_shapes": _text,
    "trt_profile_min_shapes": _text,
    "trt_profile_opt_shapes": _text,
    "trt_sparsity_enable": boolean,
    "trt_tactic_sources": _text,
    "trt_timing_cache_enable": boolean,
    "trt_timing_cache_path": _text,
}


def providers(config: dict[str, Any], kind: str, device_id: int, available: Sequence[str]) -> list[Any]:
    """Execution providers of an instance, first choice first.

    Args:
        config: the model config.
        kind: of the instance: ``CPU`` or ``GPU`` (``AUTO`` is taken for a GPU where there is one).
        device_id: of the instance's GPU.
        available: providers that this ONNX Runtime is built with.

    Raises:
        LoadError: the config asks for what is not there, or for what cannot be right (`CUDA_GRAPH_KEYS`).
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
    cuda: dict[str, str] = {}
    chosen: list[Any] = []
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        name, parameters = accelerator.get("name"), _given(accelerator.get("parameters", {}))
        _refuse_cuda_graphs(parameters)
        if name == "cuda":
            for key in CUDA_BOOLEANS:
                boolean(parameters.get(key, "0"), key)
            cuda.update(parameters)
        elif name == "tensorrt":
            chosen.append((TENSORRT_PROVIDER, _tensorrt(parameters, device_id, available)))
        else:
            raise LoadError(f"unknown Execution Accelerator '{name}' is requested; a GPU instance takes cuda, tensorrt")
    # `parameters` win, even by their defaults, and so in the C++ backend.
    for key in (*CUDA_CHOICES, *CUDA_STRINGS):
        cuda.pop(key, None)
    cuda |= {"device_id": str(device_id), **_deprecated(config)}
    return [*chosen, (CUDA_PROVIDER, cuda), CPU_PROVIDER]


def _given(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What has a value, as text; empty values count as not given, as in the C++ backend."""
    return {key: str(value) for key, value in parameters.items() if str(value)}


def _refuse_cuda_graphs(parameters: Mapping[str, str]) -> None:
    for key in CUDA_GRAPH_KEYS:
        if boolean(parameters.get(key, "0"), key):
            raise LoadError(
                f"{key} is {parameters[key]!r}: a captured CUDA graph answers every batch from the buffers of the "
                "first one, and shapes must never change, which Triton's ONNX Runtime backend guarantees neither of; "
                f"remove {key} (docs/gpu.md: CUDA graphs)"
            )


def _deprecated(config: dict[str, Any]) -> dict[str, str]:
    """CUDA options from the config's ``parameters``."""
    options: dict[str, str] = {}
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


def _tensorrt(parameters: Mapping[str, str], device_id: int, available: Sequence[str]) -> dict[str, str]:
    if TENSORRT_PROVIDER not in available:
        raise LoadError(f"accelerator tensorrt is requested, but this ONNX Runtime has only {', '.join(available)}")
    options: dict[str, str] = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in TENSORRT_PRECISIONS:
                raise LoadError(f"unsupported precision mode '{value}'; expected {', '.join(TENSORRT_PRECISIONS)}")
            options.update(TENSORRT_PRECISIONS[value])
        elif key in TENSORRT_PARAMETERS:
            TENSORRT_PARAMETERS[key](value, key)
            options[TENSORRT_NAMES.get(key, key)] = value
        else:
            raise LoadError(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")
    return options | {"device_id": str(device_id)}
