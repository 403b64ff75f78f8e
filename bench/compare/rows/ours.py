"""This project: its own export, server and client, every setting as export writes it; the cache of answers off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench.compare.contestant import SERVER, Answerer, Contestant, Unavailable, Workload
from bench.compare.rows.models import Kind, repository_of
from bench.models import MODELS, read_config
from bert_triton_client import Client
from server import ServerError, TritonServer

FP32 = "ours, FP32, gRPC"
INT8 = "ours, INT8, gRPC"
BEST = "ours, best, gRPC"
BEST_HTTP = "ours, best, HTTP"


class _Ours:
    def __init__(self, client: Client, detail: str) -> None:
        self._client = client
        self.detail = detail

    def classify(self, text: str) -> str:
        return self._client.classify(text).label


def _start(kind: Kind, protocol: str) -> Callable[[Workload], AbstractContextManager[Answerer]]:
    @contextlib.contextmanager
    def start(workload: Workload) -> Iterator[Answerer]:
        repository = repository_of(workload, kind)
        name = MODELS[workload.model].text_model
        tensor_model = read_config(repository, name).parameters["tensor_model"].string_value
        detail = f"{tensor_model.removeprefix(f'{name}_')}, {read_config(repository, tensor_model).backend}"
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(TritonServer(repository, models=(name, tensor_model)))
            except ServerError as exc:
                raise Unavailable(str(exc)) from exc
            url = server.grpc_url if protocol == "grpc" else server.http_url
            yield _Ours(stack.enter_context(Client(url, model=name)), detail)

    return start


CONTESTANTS = [
    Contestant(FP32, "defaults of export", SERVER, _start(Kind.FP32, "grpc")),
    Contestant(INT8, "defaults of export", SERVER, _start(Kind.INT8, "grpc"), "int8"),
    Contestant(BEST, "defaults of export, which chooses", SERVER, _start(Kind.BEST, "grpc"), "best"),
    Contestant(BEST_HTTP, "defaults of export, which chooses", SERVER, _start(Kind.BEST, "http"), "best"),
]
