"""``parameters`` of a model's config, read as the C++ backend reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import LoadError

CPU = "CPU"
STREAM_WORDS = ("AUTO", "NUMA")
PERFORMANCE_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")


@dataclass(frozen=True)
class Parameters:
    """What a config says about how its model runs.

    Attributes:
        properties: OpenVINO's property -> value, as they are given to the device.
        cpu_extension_path: a library of kernels to load; empty for none.
        skip_dynamic_batch_size: whether OpenVINO may not batch by itself.
        batch_padding: whether a batch that is too small is filled up with zeros.
        reshape_io_layers: whether the graph's inputs take the dims of the config.
    """

    properties: dict[str, Any]
    cpu_extension_path: str
    skip_dynamic_batch_size: bool
    batch_padding: bool
    reshape_io_layers: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Parameters:
        """Read a model config.

        Raises:
            LoadError: a value is not one of those that the parameter takes.
        """
        given = {key: str(value.get("string_value", "")) for key, value in config.get("parameters", {}).items()}
        _check_device(given.get("TARGET_DEVICE") or CPU)
        properties: dict[str, Any] = {}
        for key, read in PROPERTIES.items():
            if given.get(key):
                properties.update(read(key, given[key]))
        return cls(
            properties,
            given.get("CPU_EXTENSION_PATH", ""),
            _yes(given.get("SKIP_OV_DYNAMIC_BATCHSIZE", "")),
            _yes(given.get("ENABLE_BATCH_PADDING", "")),
            _yes(given.get("RESHAPE_IO_LAYERS", "")),
        )


def shared_among(properties: Mapping[str, Any], instances: int, cores: int) -> dict[str, Any]:
    """The properties of one of several instances, each a process, so that together they are what the config says.

    In C++ S streams of T / S threads serve C instances, of which S run at once. Here all C run at once, on
    T / max(S, C) threads each, at least one: T in total where C >= S, and T / S a request where C <= S.

    Args:
        properties: as the config has them.
        instances: how many there are of the model.
        cores: how many threads there are where the config does not say.
    """
    if instances <= 1:
        return dict(properties)
    threads = properties.get("INFERENCE_NUM_THREADS") or cores
    streams = properties.get("NUM_STREAMS")
    divisor = max(instances, streams if isinstance(streams, int) else 1)
    # Pinned, every process would take the first cores and leave the others idle.
    alone = {"INFERENCE_NUM_THREADS": max(1, threads // divisor), "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    return {**properties, **alone}


def instance_count(config: Mapping[str, Any]) -> int:
    """Instances of a model, over all its groups."""
    return sum(int(group.get("count", 1)) for group in config.get("instance_group", [])) or 1


def _number(key: str, value: str) -> dict[str, Any]:
    if not _is_number(value):
        raise LoadError(f"expected the parameter '{key}' to be a non-negative number, got {value}")
    return {key: int(value)}


def _bf16(key: str, value: str) -> dict[str, Any]:
    if not _yes(value):
        raise LoadError(f"expected the parameter '{key}' to be YES, got {value}")
    return {"INFERENCE_PRECISION_HINT": "bf16"}


def _streams(key: str, value: str) -> dict[str, Any]:
    if value.upper() in STREAM_WORDS:
        return {key: value.upper()}
    if not _is_number(value):
        raise LoadError(f"expected the parameter '{key}' to be either AUTO/NUMA/<int_value>, got {value}")
    return {key: int(value)}


def _hint(key: str, value: str) -> dict[str, Any]:
    if value.upper() not in PERFORMANCE_HINTS:
        raise LoadError(f"expected the parameter '{key}' to be {'/'.join(PERFORMANCE_HINTS)}, got {value}")
    return {key: value.upper()}


# In the order in which the C++ backend sets them.
PROPERTIES = {
    "INFERENCE_NUM_THREADS": _number,
    "COMPILATION_NUM_THREADS": _number,
    "HINT_BF16": _bf16,
    "NUM_STREAMS": _streams,
    "PERFORMANCE_HINT": _hint,
}


def _check_device(device: str) -> None:
    if device.upper() != CPU:
        raise LoadError(
            f"parameter TARGET_DEVICE is {device}; this stand-in runs on the CPU only: remove the parameter, or use "
            "NVIDIA's container with the device's drivers"
        )


def _yes(value: str) -> bool:
    return value.lower() == "yes"


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()
