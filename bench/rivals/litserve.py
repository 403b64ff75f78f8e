"""LitServe: the service that its documentation describes, `programs.litserve_app`.

On a CPU it recommends a worker a core. Truncation and padding to the longest text of the batch are the service's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bench.compare.contestant import SERVER, Answerer, Contestant, Workload
from bench.compare.server_process import free_port
from bench.rivals.int8 import int8_folder
from bench.rivals.server import (
    BF16,
    FP32,
    INT8,
    PROGRAMS,
    Protocol,
    Start,
    check_precision,
    classifier_variables,
    python_of,
    running,
)

NAME = "LitServe"
_BATCH = 16
_BATCH_TIMEOUT_S = 0.01


def label_of(answer: Any) -> str:
    """The label in ``{"label": …}``."""
    return str(answer["label"])


PROTOCOL = Protocol("/predict", lambda text: {"text": text}, label_of)


def _start(precision: str, *, tuned: bool) -> Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        check_precision(precision)
        python = python_of("litserve")
        model = int8_folder(workload) if precision == INT8 else workload.checkpoint.resolve()
        port = free_port()
        command = [str(python), str((PROGRAMS / "litserve_app.py").resolve()), "--port", str(port)]
        threads = 0
        if tuned and precision == INT8:
            threads = 1
            command += ["--workers", str(workload.cores)]
        elif tuned:
            threads = workload.cores
            command += ["--max-batch-size", str(_BATCH), "--batch-timeout", str(_BATCH_TIMEOUT_S)]
        variables = classifier_variables(model, precision, threads, workload.max_length)
        with running(command, port, PROTOCOL, workload, variables=variables) as rival:
            yield rival

    return start


CONTESTANTS = [
    Contestant(NAME, "defaults: one worker, no batching; PyTorch FP32", SERVER, _start(FP32, tuned=False)),
    Contestant(
        f"{NAME}, tuned bf16",
        f"PyTorch bf16 on all cores, batches of up to {_BATCH} collected for {_BATCH_TIMEOUT_S * 1000:.0f} ms",
        SERVER,
        _start(BF16, tuned=True),
        BF16,
    ),
    Contestant(
        f"{NAME}, tuned INT8",
        "ONNX Runtime INT8, a worker a core with a thread each, no batching (slower with it)",
        SERVER,
        _start(INT8, tuned=True),
        INT8,
    ),
]
