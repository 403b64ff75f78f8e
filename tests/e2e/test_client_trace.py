"""The client's traces in the real Triton, over all four transports."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar

import numpy as np
import pytest

import bert_triton_client as btc
from server import TritonServer
from tests.collector import Collector
from tests.e2e import client_models, triton

PARENT = "b7ad6b7169203331"
# The caller's, as OpenTelemetry's current span is: reading it in a thread of the client raises LookupError.
# A list, because the tasks of `client_models.Blocking` all have one context.
current: ContextVar[list[str | None]] = ContextVar("current")


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = client_models.write(tmp_path_factory.mktemp("client"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        return module_server_factory(repository, backends=backends, trace_endpoint=collector.url)


@pytest.mark.parametrize("kind", client_models.CLIENTS)
def test_all_requests_of_a_call_are_in_the_callers_trace(server: TritonServer, collector: Collector, kind: str) -> None:
    # Over gRPC Triton loses some traces (server/tracing.py): of several attempts one is whole, and none has too many.
    attempts = [three_traced_calls(server, kind) for _ in range(20 if kind.endswith("grpc") else 1)]
    triton.eventually(lambda: any(traced <= requests(collector) for traced in attempts), 30.0, "the spans")
    time.sleep(0.5)  # what else would come
    assert all(requests(collector)[trace] <= count for traced in attempts for trace, count in traced.items())


def three_traced_calls(server: TritonServer, kind: str) -> Counter[str]:
    """Calls in a trace and outside of any; returns how many requests each trace should have."""
    asked: list[str | None] = []

    def traceparent() -> str | None:
        asked.append(current.get()[-1])
        return asked[-1]

    many, one, array = (secrets.token_hex(16) for _ in range(3))
    given = [None, *(f"00-{trace}-{PARENT}-01" for trace in (many, one, array)), "no trace"]
    ids = np.ones((1, 4), np.int64)
    current.set(spans := [])
    with client_models.connect(server, kind, traceparent=traceparent) as client:
        spans.append(given[0])
        client.classify("outside of any trace")
        spans.append(given[1])
        client.classify([f"text {i}" for i in range(150)])  # 3 requests of at most 64
        spans.append(given[2])
        client.classify("alone")
        spans.append(given[3])
        client.infer("sentiment_tensors", {"input_ids": ids, "attention_mask": ids})
        spans.append(given[4])
        with pytest.raises(btc.InvalidConfigError, match="returned 'no trace'"):
            client.classify("never sent")
    assert asked == given, kind
    return Counter({many: 3, one: 1, array: 1})


def requests(collector: Collector) -> Counter[str]:
    """The requests that the server has told of, by trace."""
    found = [span for span in collector.spans() if span["name"] == "InferRequest"]
    assert all(span.get("parentSpanId") == PARENT for span in found), "none of what has no traceparent"
    return Counter(span["traceId"] for span in found)
