"""Infinity: ``infinity_emb v2``, endpoint ``/classify``.

With PyTorch it truncates at the tokenizer's limit. Its ONNX classifier does not truncate, so its own warm-up (of longer
texts) fails there and is off; it computes the texts of a batch one after another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from bench.compare.contestant import SERVER, Answerer, Contestant, Workload
from bench.compare.server_process import free_port
from bench.rivals.int8 import int8_folder
from bench.rivals.server import BF16, FP32, HOST, INT8, Protocol, Start, check_precision, python_of, running

NAME = "Infinity"
_MODEL = "classifier"


def label_of(answer: Any) -> str:
    """The label with the highest score of the one text."""
    return str(max(answer["data"][0], key=lambda candidate: candidate["score"])["label"])


PROTOCOL = Protocol("/classify", lambda text: {"model": _MODEL, "input": [text]}, label_of)


def _start(precision: str, *flags: str) -> Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        check_precision(precision)
        python = python_of("infinity")
        model = int8_folder(workload) if precision == INT8 else workload.checkpoint.resolve()
        port = free_port()
        # Its path of the ONNX file begins with the model's, Optimum expects one below the model: "." is right for both.
        command = [str(python.with_name("infinity_emb")), "v2", "--model-id", "."]
        command += ["--served-model-name", _MODEL, "--host", HOST, "--port", str(port), *flags]
        variables = {"INFINITY_ANONYMOUS_USAGE_STATS": "0"}
        if flags:
            variables["OMP_NUM_THREADS"] = str(workload.cores)
        with running(command, port, PROTOCOL, workload, variables=variables, folder=model) as rival:
            yield rival

    return start


_QUIET: Sequence[str] = ("--log-level", "warning")

CONTESTANTS = [
    Contestant(NAME, "defaults: PyTorch FP32, torch.compile, batches of up to 32", SERVER, _start(FP32)),
    Contestant(
        f"{NAME}, tuned bf16",
        "PyTorch bf16 on all cores, torch.compile, batches of up to 32, no access log",
        SERVER,
        _start(BF16, "--dtype", "bfloat16", *_QUIET),
        BF16,
    ),
    Contestant(
        f"{NAME}, tuned INT8",
        "engine optimum (which it recommends for CPUs), ONNX Runtime INT8 on all cores, no access log",
        SERVER,
        _start(INT8, "--engine", "optimum", "--no-model-warmup", *_QUIET),
        INT8,
    ),
]
