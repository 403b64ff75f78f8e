"""The client's traces in the real Triton, over all four transports."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
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
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = client_models.write(tmp_path_factory.mktemp("client"))
    return module_server_factory(repository, backends=backends, trace_endpoint=collector.url)


def test_all_requests_of_a_call_are_in_the_callers_trace(server: TritonServer, collector: Collector) -> None:
    """All clients in one test: Triton sends its spans every 5 s only."""
    sent: Counter[str] = Counter()  # requests by their trace
    for kind in client_models.CLIENTS:
        sent.update(three_traced_calls(server, kind))
    triton.eventually(lambda: requests(collector).total() >= sent.total(), 30.0, "the spans")
    assert requests(collector) == sent, "and of what has no traceparent there is none"


def three_traced_calls(server: TritonServer, kind: str) -> dict[str, int]:
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
    return {many: 3, one: 1, array: 1}


def requests(collector: Collector) -> Counter[str]:
    """The requests that the server has told of, by trace."""
    found = [span for span in collector.spans() if span["name"] == "InferRequest"]
    assert all(span.get("parentSpanId") == PARENT for span in found)
    return Counter(span["traceId"] for span in found)
