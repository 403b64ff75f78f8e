"""TorchServe, with a handler for text classification: `programs.torchserve_handler`.

Truncation and padding to the longest text of the batch are the handler's own. It needs Java.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.compare.contestant import SERVER, Answerer, Contestant, Unavailable, Workload
from bench.compare.server_process import free_port
from bench.rivals.int8 import int8_folder
from bench.rivals.server import (
    BF16,
    FP32,
    HOST,
    INT8,
    PROGRAMS,
    Protocol,
    Start,
    check_precision,
    classifier_variables,
    python_of,
    running,
)

NAME = "TorchServe"
_MODEL = "classifier"
_HANDLER = "torchserve_handler.py"
_FILES = (_HANDLER, "classifier.py")
_BATCH = 8
_MAX_BATCH_DELAY_MS = 10


def label_of(answer: Any) -> str:
    """The label in ``{"label": …}``."""
    return str(answer["label"])


PROTOCOL = Protocol(f"/predictions/{_MODEL}", lambda text: {"text": text}, label_of)


def config_properties(ports: tuple[int, int, int, int, int]) -> str:
    """``config.properties``; ports of inference, management, metrics, gRPC inference, gRPC management."""
    inference, management, metrics, grpc_inference, grpc_management = ports
    lines = {
        "inference_address": f"http://{HOST}:{inference}",
        "management_address": f"http://{HOST}:{management}",
        "metrics_address": f"http://{HOST}:{metrics}",
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "load_models": _MODEL,
        "disable_token_authorization": "true",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def model_config(workers: int, batch: int) -> str:
    """``model-config.yaml``."""
    return f"minWorkers: {workers}\nmaxWorkers: {workers}\nbatchSize: {batch}\nmaxBatchDelay: {_MAX_BATCH_DELAY_MS}\n"


def write_archive(folder: Path, config: str | None) -> None:
    """A model archive that is a folder: what ``torch-model-archiver --archive-format no-archive`` writes."""
    (folder / "MAR-INF").mkdir(parents=True)
    model = {"modelName": _MODEL, "handler": _HANDLER, "modelVersion": "1.0"}
    if config is not None:
        (folder / "model-config.yaml").write_text(config)
        model["configFile"] = "model-config.yaml"
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    (folder / "MAR-INF/MANIFEST.json").write_text(json.dumps(manifest))
    for name in _FILES:
        shutil.copy(PROGRAMS / name, folder)


def _start(precision: str, *, tuned: bool) -> Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        check_precision(precision)
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise Unavailable("needs Java: apt-get install openjdk-17-jre-headless")
        python = python_of("torchserve")
        model = int8_folder(workload) if precision == INT8 else workload.checkpoint.resolve()
        threads, config = 0, None
        if tuned and precision == INT8:
            threads, config = 1, model_config(workload.cores, 1)
        elif tuned:
            threads, config = workload.cores, model_config(1, _BATCH)
        with tempfile.TemporaryDirectory(prefix="ts-") as name:
            folder = Path(name)
            write_archive(folder / "store" / _MODEL, config)
            port = free_port()
            others = (free_port(), free_port(), free_port(), free_port())
            (folder / "config.properties").write_text(config_properties((port, *others)))
            command = [str(python.with_name("torchserve")), "--start", "--foreground"]
            command += ["--ts-config", str(folder / "config.properties"), "--model-store", str(folder / "store")]
            variables = classifier_variables(model, precision, threads, workload.max_length)
            # Its note of which server runs, its sockets, its logs: two servers must not share them.
            variables |= dict.fromkeys(("TMPDIR", "TEMP", "LOG_LOCATION", "METRICS_LOCATION"), name)
            with running(command, port, PROTOCOL, workload, variables=variables, folder=folder) as rival:
                yield rival

    return start


CONTESTANTS = [
    Contestant(NAME, "defaults: a worker a core, no batching; PyTorch FP32", SERVER, _start(FP32, tuned=False)),
    Contestant(
        f"{NAME}, tuned bf16",
        f"PyTorch bf16, one worker on all cores, batches of up to {_BATCH} collected for {_MAX_BATCH_DELAY_MS} ms",
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
