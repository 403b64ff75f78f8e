"""Execution providers and their options, as the C++ backend reads them from the config."""

from __future__ import annotations

from typing import Any

import pytest

from backends.onnxruntime.errors import LoadError
from backends.onnxruntime.providers import providers

CPU = ["CPUExecutionProvider"]
CUDA = ["CUDAExecutionProvider", *CPU]
TENSORRT = ["TensorrtExecutionProvider", *CUDA]


def config(**parameters: str) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}


def accelerators(kind: str, *named: dict[str, Any], **parameters: str) -> dict[str, Any]:
    return {
        **config(**parameters),
        "optimization": {"execution_accelerators": {f"{kind}_execution_accelerator": named}},
    }


def test_kinds_choose_providers() -> None:
    assert providers({}, "CPU", 0, CUDA) == CPU
    assert providers({}, "AUTO", 0, CPU) == CPU
    assert providers({}, "GPU", 1, CUDA) == [("CUDAExecutionProvider", {"device_id": "1"}), *CPU]


def test_a_gpu_instance_without_cuda_is_refused() -> None:
    with pytest.raises(LoadError, match="KIND_GPU, but this ONNX Runtime has only CPUExecutionProvider"):
        providers({}, "GPU", 0, CPU)


def test_cuda_options_from_both_places() -> None:
    settings = accelerators(
        "gpu", {"name": "cuda", "parameters": {"gpu_mem_limit": "5"}}, cudnn_conv_algo_search="1", gpu_mem_limit="4"
    )
    ((name, options), *_) = providers(settings, "GPU", 0, CUDA)
    assert name == "CUDAExecutionProvider"
    assert options == {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "gpu_mem_limit": "4"}


def test_options_of_the_cuda_accelerator_reach_the_provider() -> None:
    given = {"use_tf32": "0", "use_ep_level_unified_stream": "1", "gpu_mem_limit": "5", "device_id": "9", "tunable": ""}
    ((_, options), *_) = providers(accelerators("gpu", {"name": "cuda", "parameters": given}), "GPU", 1, CUDA)
    assert options == {"device_id": "1", "use_tf32": "0", "use_ep_level_unified_stream": "1"}


def test_tensorrt_comes_before_cuda_with_its_parameters() -> None:
    parameters = {"precision_mode": "FP16", "max_workspace_size_bytes": "1000", "trt_engine_cache_enable": "true"}
    chosen = providers(accelerators("gpu", {"name": "tensorrt", "parameters": parameters}), "GPU", 0, TENSORRT)
    assert [provider if isinstance(provider, str) else provider[0] for provider in chosen] == TENSORRT
    assert chosen[0][1] == {
        "device_id": "0",
        "trt_fp16_enable": "1",
        "trt_max_workspace_size": "1000",
        "trt_engine_cache_enable": "true",
    }


def test_shape_profiles_reach_tensorrt_as_they_are() -> None:
    shapes = {
        "trt_profile_min_shapes": "input_ids:1x1,attention_mask:1x1",
        "trt_profile_opt_shapes": "input_ids:16x64,attention_mask:16x64",
        "trt_profile_max_shapes": "input_ids:64x512,attention_mask:64x512",
    }
    ((_, options), *_) = providers(accelerators("gpu", {"name": "tensorrt", "parameters": shapes}), "GPU", 2, TENSORRT)
    assert options == {"device_id": "2", **shapes}


@pytest.mark.parametrize(
    ("settings", "kind", "available", "words"),
    [
        (accelerators("cpu", {"name": "openvino"}), "CPU", CPU, "unknown Execution Accelerator 'openvino'"),
        (accelerators("cpu", {"name": "openvino"}), "GPU", CUDA, "unknown Execution Accelerator 'openvino'"),
        (
            accelerators("gpu", {"name": "warp"}),
            "GPU",
            CUDA,
            "'warp' is requested; a GPU instance takes cuda, tensorrt",
        ),
        (accelerators("gpu", {"name": "tensorrt"}), "GPU", CUDA, "tensorrt is requested, but"),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"precision_mode": "FP8"}}),
            "GPU",
            TENSORRT,
            "unsupported precision mode 'FP8'",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"speed": "9"}}),
            "GPU",
            TENSORRT,
            "unknown parameter 'speed'",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"trt_min_subgraph_size": "small"}}),
            "GPU",
            TENSORRT,
            "trt_min_subgraph_size is 'small'; expected a whole number",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"trt_engine_cache_enable": "yes"}}),
            "GPU",
            TENSORRT,
            "trt_engine_cache_enable is 'yes'; expected one of true",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"trt_cuda_graph_enable": "true"}}),
            "GPU",
            TENSORRT,
            "trt_cuda_graph_enable is 'true': a captured CUDA graph",
        ),
        (
            accelerators("gpu", {"name": "cuda", "parameters": {"enable_cuda_graph": "1"}}),
            "GPU",
            CUDA,
            "enable_cuda_graph is '1': a captured CUDA graph",
        ),
        (
            accelerators("gpu", {"name": "cuda", "parameters": {"use_ep_level_unified_stream": "yes"}}),
            "GPU",
            CUDA,
            "use_ep_level_unified_stream is 'yes'; expected one of true",
        ),
        (config(cudnn_conv_algo_search="3"), "GPU", CUDA, "cudnn_conv_algo_search is 3; expected 0 to 2"),
    ],
)
def test_refuses_accelerators(settings: dict[str, Any], kind: str, available: list[str], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        providers(settings, kind, 0, available)


def test_a_cuda_graph_that_is_off_is_no_reason_to_fail() -> None:
    ((_, options), *_) = providers(
        accelerators("gpu", {"name": "cuda", "parameters": {"enable_cuda_graph": "0"}}), "GPU", 0, CUDA
    )
    assert options == {"device_id": "0", "enable_cuda_graph": "0"}


def test_gpu_accelerators_do_not_matter_on_a_cpu_instance() -> None:
    assert providers(accelerators("gpu", {"name": "tensorrt"}), "CPU", 0, CPU) == CPU
