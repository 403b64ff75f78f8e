"""FastAPI + transformers + PyTorch: the service that people write first, and what its author would make of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench.compare.contestant import SERVER, Answerer, Contestant, Unavailable, Workload
from bench.compare.environment import environment
from bench.compare.http_client import JsonClient
from bench.compare.server_process import free_port, serving
from bench.load import has_bf16

FOLDER = Path(__file__).parents[1] / "fastapi"


class _Service:
    def __init__(self, port: int) -> None:
        self._client = JsonClient("127.0.0.1", port)

    def close(self) -> None:
        self._client.close()

    def classify(self, text: str) -> str:
        return str(self._client.post("/classify", {"text": text})["label"])


def _start(
    app: str, precision: str = "fp32", *, tuned: bool = True
) -> Callable[[Workload], AbstractContextManager[Answerer]]:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        if precision == "bf16" and not has_bf16():
            raise Unavailable("this CPU has neither AVX512_BF16 nor AMX_BF16")
        python = environment("fastapi", FOLDER / "requirements.txt")
        port = free_port()
        command = [str(python), "-m", "uvicorn", f"{app}:app", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--log-level", "warning"]
        variables = {"CHECKPOINT": str(workload.checkpoint.resolve()), "PRECISION": precision}
        # Of one call, and calls at once: together the cores. PyTorch's own number of threads is 0.
        threads, calls = (1, workload.cores) if app == "one_text" else (workload.cores if tuned else 0, 1)
        variables |= {"THREADS": str(threads), "CALLS": str(calls)}
        with (
            contextlib.closing(_Service(port)) as service,
            serving(
                command, lambda: service.classify(workload.texts[0]), environment=variables, folder=FOLDER.resolve()
            ),
        ):
            yield service

    return start


_TUNED = "as many at once as cores, a thread each, inference_mode"
_BATCHES = "a queue collects 16 texts for 10 ms"

CONTESTANTS = [
    Contestant(
        "FastAPI + PyTorch, one text a request",
        "defaults: pipeline in a sync endpoint, uvicorn",
        SERVER,
        _start("simple", tuned=False),
    ),
    Contestant("FastAPI + PyTorch, one text a request, tuned FP32", _TUNED, SERVER, _start("one_text")),
    Contestant(
        "FastAPI + PyTorch, one text a request, tuned bf16",
        _TUNED,
        SERVER,
        _start("one_text", "bf16"),
        "bf16",
    ),
    Contestant(
        "FastAPI + PyTorch, one text a request, tuned INT8",
        f"{_TUNED}, torch dynamic quantisation",
        SERVER,
        _start("one_text", "int8"),
        "int8",
    ),
    Contestant(
        "FastAPI + PyTorch, batches", f"defaults of PyTorch; {_BATCHES}", SERVER, _start("batches", tuned=False)
    ),
    Contestant(
        "FastAPI + PyTorch, batches, tuned bf16",
        f"all cores, inference_mode; {_BATCHES}",
        SERVER,
        _start("batches", "bf16"),
        "bf16",
    ),
    Contestant(
        "FastAPI + PyTorch, batches, tuned INT8",
        f"all cores, inference_mode, torch dynamic quantisation; {_BATCHES}",
        SERVER,
        _start("batches", "int8"),
        "int8",
    ),
]
