"""The serving settings that can be varied: how each is read from a text model and its tensor model, and written.

Edits configs, as `ModelConfig` messages, and nothing else; `bench.settings` measures what comes of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from bench.models import read_config, write_config

ENGINE = "engine"
# Backend of the tensor model -> its parameter for the threads of one instance.
THREADS = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}
# Where instances share one pool of threads: the parameter for the parts it is divided into, one for each instance.
SHARED_THREADS = {"openvino": "NUM_STREAMS"}
# What bert_text takes where its config is silent.
DEFAULT_CALLS_IN_FLIGHT = "2"


@dataclass
class Configs:
    """The configs of a text model and of the tensor model that it calls."""

    text: ModelConfig
    tensor: ModelConfig

    @classmethod
    def of(cls, repository: Path, name: str) -> Configs:
        """The configs of the text model ``name`` and its tensor model."""
        text = read_config(repository, name)
        return cls(text, read_config(repository, text.parameters["tensor_model"].string_value))


@dataclass(frozen=True)
class Setting:
    """One thing to vary.

    Attributes:
        meaning: in a heading.
        values: to try beside the configs' own, given the number of cores.
        read: the value in configs.
        write: puts a value into configs.
    """

    meaning: str
    values: Callable[[int], Sequence[str]]
    read: Callable[[Configs], str]
    write: Callable[[Configs, str], None]


def _parameter(key: str, default: str = "") -> tuple[Callable[[Configs], str], Callable[[Configs, str], None]]:
    """Read and write of a parameter of the text model."""

    def read(configs: Configs) -> str:
        return configs.text.parameters[key].string_value if key in configs.text.parameters else default

    def write(configs: Configs, value: str) -> None:
        configs.text.parameters[key].string_value = value

    return read, write


def _engine(configs: Configs) -> str:
    return configs.tensor.backend


def _set_engine(configs: Configs, value: str) -> None:
    if configs.tensor.backend != value:
        raise ValueError(f"the tensor model is exported for {configs.tensor.backend}, not for {value}: export it anew")


def _threads(configs: Configs) -> str:
    instances = configs.tensor.instance_group[0].count
    threads = int(configs.tensor.parameters[THREADS[configs.tensor.backend]].string_value)
    return f"{instances}x{threads // (instances if configs.tensor.backend in SHARED_THREADS else 1)}"


def _set_threads(configs: Configs, value: str) -> None:
    """``instances x threads of each``; every instance needs a call under way, and one more waits for the first free."""
    instances, threads = map(int, value.split("x"))
    tensor = configs.tensor
    tensor.instance_group[0].count = instances
    if tensor.backend in SHARED_THREADS:
        threads *= instances
        tensor.parameters[SHARED_THREADS[tensor.backend]].string_value = str(instances)
    tensor.parameters[THREADS[tensor.backend]].string_value = str(threads)
    configs.text.parameters["calls_in_flight"].string_value = str(instances + 1)


def _delay(configs: Configs) -> str:
    return str(configs.text.dynamic_batching.max_queue_delay_microseconds)


def _set_delay(configs: Configs, value: str) -> None:
    configs.text.dynamic_batching.max_queue_delay_microseconds = int(value)


def _text_instances(configs: Configs) -> str:
    return str(configs.text.instance_group[0].count)


def _set_text_instances(configs: Configs, value: str) -> None:
    configs.text.instance_group[0].count = int(value)


SETTINGS: dict[str, Setting] = {
    ENGINE: Setting("engine of the tensor model", lambda _: tuple(THREADS), _engine, _set_engine),
    "threads": Setting(
        "instances x threads of the tensor model",
        lambda cores: (f"1x{cores}", f"{cores}x1", f"2x{cores}"),
        _threads,
        _set_threads,
    ),
    "budget": Setting(
        "max_tokens: tokens of one call", lambda _: ("128", "256", "512", "1024"), *_parameter("max_tokens")
    ),
    "calls": Setting(
        "calls_in_flight: calls under way at once",
        lambda _: ("1", "2", "3"),
        *_parameter("calls_in_flight", DEFAULT_CALLS_IN_FLIGHT),
    ),
    "delay": Setting("max_queue_delay_microseconds", lambda _: ("0", "500", "2000"), _delay, _set_delay),
    "text-instances": Setting(
        "instances of the text model", lambda _: ("1", "2"), _text_instances, _set_text_instances
    ),
}


def values_of(setting: str, configs: Configs, cores: int) -> list[str]:
    """The values to measure, the one that ``configs`` has first."""
    own = SETTINGS[setting].read(configs)
    return list(dict.fromkeys([own, *SETTINGS[setting].values(cores)]))


def repository_with(setting: str, value: str, source: Path, name: str, target: Path) -> Path:
    """A copy in ``target`` of the text model ``name`` of ``source`` and its tensor model: with ``value``, no cache.

    ONNX files are linked, the rest is copied: ``source`` is never written to.

    Raises:
        ValueError: ``source`` cannot have that value without another export.
    """
    configs = Configs.of(source, name)
    SETTINGS[setting].write(configs, value)
    configs.text.parameters["cache_size"].string_value = "0"
    for config in (configs.text, configs.tensor):
        shutil.copytree(source / config.name, target / config.name, copy_function=_link_weights)
        write_config(target, config.name, config)
    return target


def _link_weights(source: str, target: str) -> None:
    if source.endswith((".onnx", ".data")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
