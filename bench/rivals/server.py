"""What the rivals have in common: where their files lie, the INT8 model that they are given, a connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare.contestant import Answerer, Unavailable, Workload
from bench.compare.environment import environment
from bench.compare.http_client import JsonClient
from bench.compare.server_process import serving
from bench.load import has_bf16

HOST = "127.0.0.1"
FP32 = "fp32"
BF16 = "bf16"
INT8 = "int8"
PROGRAMS = Path(__file__).parent / "programs"
_REQUIREMENTS = Path(__file__).parent / "requirements"
# From nothing to the first answer. Several of them import PyTorch and TensorFlow in more than one process.
_START_TIMEOUT_S = 300.0
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}

Start = Callable[[Workload], AbstractContextManager[Answerer]]


def python_of(name: str) -> Path:
    """The Python of a rival's environment, installed from ``requirements/<name>.txt``; its commands lie beside it.

    Raises:
        Unavailable: it cannot be installed.
    """
    return environment(name, _REQUIREMENTS / f"{name}.txt")


def check_precision(precision: str) -> None:
    """Raises `Unavailable` where the processor lacks what makes a precision worth its row."""
    if precision == BF16 and not has_bf16():
        raise Unavailable("this CPU has neither AVX512_BF16 nor AMX_BF16")


def classifier_variables(folder: Path, precision: str, threads: int, max_length: int) -> dict[str, str]:
    """What `programs.classifier` reads; ``threads`` 0 leaves them to the library."""
    return {
        "CLASSIFIER_FOLDER": str(folder),
        "CLASSIFIER_PRECISION": "onnx" if precision == INT8 else precision,
        "CLASSIFIER_THREADS": str(threads),
        "CLASSIFIER_MAX_LENGTH": str(max_length),
    }


@dataclass(frozen=True)
class Protocol:
    """How one text is asked for.

    Attributes:
        path: of the URL.
        request: the text to the JSON body.
        label: the JSON answer to the label.
    """

    path: str
    request: Callable[[str], Any]
    label: Callable[[Any], str]


class Rival:
    """A rival that is up; thread-safe."""

    def __init__(self, port: int, protocol: Protocol) -> None:
        self._client = JsonClient(HOST, port)
        self._protocol = protocol

    def classify(self, text: str) -> str:
        """The label of ``text``."""
        return self._protocol.label(self._client.post(self._protocol.path, self._protocol.request(text)))


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    protocol: Protocol,
    workload: Workload,
    *,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Answerer]:
    """The server while it is up, with no way to the model hub.

    Raises:
        Unavailable: it ended, or did not answer the first text in time.
    """
    rival = Rival(port, protocol)
    with serving(
        command,
        lambda: rival.classify(workload.texts[0]),
        environment={**_OFFLINE, **(variables or {})},
        folder=folder,
        timeout_s=_START_TIMEOUT_S,
    ):
        yield rival
