"""MLServer with its Hugging Face runtime.

It does not truncate: a text longer than the model's limit is an error there. Its adaptive batches hand the runtime the
texts of several requests, which it takes as one list only from an input named ``array_inputs``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.compare.contestant import SERVER, Answerer, Contestant, Workload
from bench.compare.server_process import free_port
from bench.rivals.int8 import int8_folder
from bench.rivals.server import BF16, FP32, HOST, INT8, PROGRAMS, Protocol, Start, check_precision, python_of, running

NAME = "MLServer"
_MODEL = "classifier"
_BATCH = 8
_BATCH_TIME_S = 0.01


def request_of(text: str, name: str = "args") -> dict[str, Any]:
    """A request of the V2 inference protocol, as the runtime's documentation writes it."""
    return {"inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}]}


def label_of(answer: Any) -> str:
    """The label; the one element of the output is JSON once more: ``{"label": …, "score": …}``."""
    return str(json.loads(answer["outputs"][0]["data"][0])["label"])


PROTOCOL = Protocol(f"/v2/models/{_MODEL}/infer", request_of, label_of)
BATCHED = Protocol(PROTOCOL.path, lambda text: request_of(text, "array_inputs"), label_of)


def model_settings(model: Path, precision: str, threads: int | None, batch: int) -> dict[str, Any]:
    """``model-settings.json``.

    Args:
        model: the checkpoint, or the folder with its ONNX file.
        precision: which of them, and in which type PyTorch computes.
        threads: that PyTorch computes with; None leaves it to PyTorch.
        batch: largest adaptive batch; 1 = off, which is the default.
    """
    extra: dict[str, Any] = {"task": "text-classification", "pretrained_model": str(model)}
    if precision == INT8:
        extra["optimum_model"] = True
    if precision == BF16:
        extra["model_kwargs"] = {"torch_dtype": "bfloat16"}
    if threads is not None:
        extra |= {"framework": "pt", "intra_op_threads": threads}
    settings: dict[str, Any] = {
        "name": _MODEL,
        "implementation": "mlserver_runtime.HuggingFaceRuntime",
        "parameters": {"extra": extra},
    }
    if batch > 1:
        settings |= {"max_batch_size": batch, "max_batch_time": _BATCH_TIME_S}
    return settings


def _start(precision: str, *, batch: int = 1, all_cores: bool = False) -> Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        check_precision(precision)
        python = python_of("mlserver")
        model = int8_folder(workload) if precision == INT8 else workload.checkpoint.resolve()
        threads = workload.cores if all_cores else None
        with tempfile.TemporaryDirectory(prefix="mlserver-") as name:
            folder = Path(name) / _MODEL  # it warns where folder and model differ in name
            folder.mkdir()
            port, grpc_port, metrics_port = free_port(), free_port(), free_port()
            server = {"host": HOST, "http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port}
            (folder / "settings.json").write_text(json.dumps(server))
            (folder / "model-settings.json").write_text(json.dumps(model_settings(model, precision, threads, batch)))
            shutil.copy(PROGRAMS / "mlserver_runtime.py", folder)
            command = [str(python.with_name("mlserver")), "start", str(folder)]
            with running(command, port, BATCHED if batch > 1 else PROTOCOL, workload, folder=folder) as rival:
                yield rival

    return start


_COLLECTED = f"adaptive batches of up to {_BATCH} collected for {_BATCH_TIME_S * 1000:.0f} ms"

CONTESTANTS = [
    Contestant(NAME, "defaults: Hugging Face runtime, no batching; PyTorch FP32", SERVER, _start(FP32)),
    Contestant(
        f"{NAME}, tuned bf16",
        f"PyTorch bf16 on all cores, {_COLLECTED}",
        SERVER,
        _start(BF16, batch=_BATCH, all_cores=True),
        BF16,
    ),
    Contestant(
        f"{NAME}, tuned INT8",
        f"Optimum's ONNX Runtime INT8 on all cores, {_COLLECTED}",
        SERVER,
        _start(INT8, batch=_BATCH),
        INT8,
    ),
]
