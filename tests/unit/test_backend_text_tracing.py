"""The spans that a text model adds to its caller's trace, and their way to a collector."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from backends.bert_text.tracing import Call, Parent, Tracer, spans
from tests.collector import Collector

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = json.dumps({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b"})
CALL = Call("sentiment_int8", 2, 5, 1_000, 3_000)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.mark.parametrize("context", [None, "", "{}", "[]", "null", "{", '{"traceparent": "00-1-2-3"}'])
def test_a_request_that_is_not_traced_has_no_parent(context: str | None) -> None:
    assert Parent.of(context) is None


def test_a_computed_request_waited_and_was_computed() -> None:
    parent = Parent.of(CONTEXT)
    assert parent == Parent(TRACE, SPAN)
    queue, call = spans(parent, 400, CALL)
    assert {(span["traceId"], span["parentSpanId"]) for span in (queue, call)} == {(TRACE, SPAN)}
    assert queue["spanId"] != call["spanId"]
    assert (queue["name"], queue["startTimeUnixNano"], queue["endTimeUnixNano"]) == ("queue", "400", "1000")
    assert (call["name"], call["startTimeUnixNano"], call["endTimeUnixNano"]) == ("sentiment_int8", "1000", "3000")
    assert {entry["key"]: next(iter(entry["value"].values())) for entry in call["attributes"]} == {
        "triton.model_name": "sentiment_int8",
        "triton.model_version": "2",
        "bert_text.texts": "5",
    }


def test_a_cached_answer_has_no_spans_and_a_failure_has_its_code() -> None:
    parent = Parent(TRACE, SPAN)
    assert spans(parent, 400, None) == []
    (failed,) = spans(parent, time.time_ns(), None, "UNAVAILABLE")
    assert (failed["name"], failed["status"]) == ("queue", {"code": 2, "message": "UNAVAILABLE"})


def test_spans_reach_the_collector_in_batches(collector: Collector) -> None:
    lines: list[str] = []
    environ = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "ours",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
    }
    tracer = Tracer.from_environment(environ, lines.append)
    assert tracer is not None
    made = [span for _ in range(400) for span in spans(Parent(TRACE, SPAN), 400, CALL)]
    tracer.add(made)
    assert collector.arrived.acquire(timeout=20)
    tracer.close()
    sizes = [len(message["resourceSpans"][0]["scopeSpans"][0]["spans"]) for message in collector.received]
    assert sizes == [512, 288]
    assert collector.spans() == made
    first = collector.received[0]
    assert (first["path"], first["type"]) == ("/v1/traces", "application/json")
    resource = first["resourceSpans"][0]["resource"]["attributes"]
    assert resource == [{"key": "service.name", "value": {"stringValue": "ours"}}]
    assert lines == []


def test_without_a_collector_spans_are_dropped_and_the_log_says_so_once() -> None:
    refusing, lines = Collector(status=503), []
    try:
        tracer = Tracer(refusing.url, "ours", 0.01, lines.append)
        made = spans(Parent(TRACE, SPAN), 400, CALL)
        for _ in range(2000):
            tracer.add(made)  # never waits, never grows without bound
        assert refusing.arrived.acquire(timeout=20)
        tracer.close()
    finally:
        refusing.close()
    assert len(lines) == 1
    assert lines[0].endswith("it answers 503")
    assert Tracer.from_environment({}, lines.append) is None


def test_what_is_no_address_is_logged_without_the_password_in_it() -> None:
    lines: list[str] = []
    tracer = Tracer("http://me:secret@collector:port/v1/traces", "ours", 0, lines.append)
    tracer.add(spans(Parent(TRACE, SPAN), 400, CALL))
    tracer.close()
    assert len(lines) == 1
    assert lines[0].startswith("2 spans were not sent to collector: ValueError: ")
    assert "secret" not in lines[0]
