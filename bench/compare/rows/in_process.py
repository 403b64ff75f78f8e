"""What computes in a process of its own, without a server: it takes the whole list of texts at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench.compare.contestant import IN_PROCESS, Answerer, Contestant, Unavailable, Workload
from bench.compare.rows.models import Kind, repository_of
from bench.compare.worker_process import working
from bench.load import has_bf16
from bench.models import MODELS

_Start = Callable[[Workload], AbstractContextManager[Answerer]]


def _pipeline(dtype: str, batch_size: int) -> _Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        if dtype == "bfloat16" and not has_bf16():
            raise Unavailable("this CPU has neither AVX512_BF16 nor AMX_BF16")
        with working(
            kind="pipeline",
            checkpoint=str(workload.checkpoint),
            dtype=dtype,
            batch_size=batch_size,
            max_length=workload.max_length,
        ) as worker:
            yield worker

    return start


def _engine(kind: Kind, precision: str | None, layout: str) -> _Start:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        repository = repository_of(workload, kind)
        with working(
            kind="engine",
            repository=str(repository),
            name=MODELS[workload.model].text_model,
            precision=precision,
            layout=layout,
            threads=workload.cores,
        ) as worker:
            yield worker

    return start


def _row(name: str, settings: str, start: _Start, precision: str = "fp32") -> Contestant:
    return Contestant(name, settings, IN_PROCESS, start, precision)


ONE_AT_A_TIME = "ours, best, in process, one text at a time"
LIMIT = "the limit: ours, best, in process, packed"
PADDED_16 = "ONNX Runtime FP32, in process, batches of 16"
PACKED_16 = "ours, FP32, in process, batches of 16"

RIVALS = [
    _row("transformers pipeline FP32, one text", "defaults", _pipeline("float32", 1)),
    _row("transformers pipeline FP32, batches of 16", "batch_size=16", _pipeline("float32", 16)),
    _row("transformers pipeline bf16, one text", "dtype=bfloat16", _pipeline("bfloat16", 1), "bf16"),
    _row(
        "transformers pipeline bf16, batches of 16", "dtype=bfloat16, batch_size=16", _pipeline("bfloat16", 16), "bf16"
    ),
    _row(
        "ONNX Runtime FP32, in process, one text", "fused graph, no padding", _engine(Kind.PADDED, "fp32", "one_text")
    ),
    _row(PADDED_16, "fused graph, padded in arrival order", _engine(Kind.PADDED, "fp32", "arrival_order")),
    _row(
        "ONNX Runtime INT8, in process, one text",
        "fused graph, no padding",
        _engine(Kind.PADDED, "int8", "one_text"),
        "int8",
    ),
    _row(
        "ONNX Runtime INT8, in process, batches of 16",
        "fused graph, padded in arrival order",
        _engine(Kind.PADDED, "int8", "arrival_order"),
        "int8",
    ),
]
OURS = [
    _row(PACKED_16, "packed in arrival order", _engine(Kind.FP32, None, "arrival_order")),
    _row(ONE_AT_A_TIME, "the served engine and settings, no padding", _engine(Kind.BEST, None, "one_text"), "best"),
    _row(LIMIT, "sorted by length, executions of 512 tokens", _engine(Kind.BEST, None, "sorted_budget"), "best"),
]
