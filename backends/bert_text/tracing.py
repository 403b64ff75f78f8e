"""What a traced request waited for, sent to an OpenTelemetry collector: OTLP over HTTP, as JSON.

Triton makes spans itself for a request that carries a ``traceparent``: ``InferRequest`` and, in it, one of the model.
But its span of a model ends with ``execute``, which a text model leaves before it answers (``triton_model.py``), and by
then Triton has freed what it would need to trace the call of the tensor model (passing it on would crash the server).
So a text model adds two spans of its own to its caller's trace::

    InferRequest ── sentiment ── queue             from arrival until the tensor model is called
                              └─ sentiment_int8    that call: version, and how many texts shared it

Where Triton lost the trace, as it does with some over gRPC (``server/tracing.py``), they lie in the caller's own span.
A request that is answered from the cache has neither. The collector's address is in the environment variable that
OpenTelemetry defines for it; without it nothing here runs. Serving never waits for the collector: what it does not take
is dropped, and the log says so.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SERVICE = "OTEL_SERVICE_NAME"
DELAY_MS = "OTEL_BSP_SCHEDULE_DELAY"
DEFAULT_DELAY_MS = 5000  # as Triton's own spans
MIN_DELAY_S = 0.01  # 0 would keep a core busy

MAX_WAITING = 2048
MAX_EXPORTED = 512
EXPORT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
LOG_EVERY_S = 60.0

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")
INTERNAL, CLIENT = 1, 3  # kinds of spans
ERROR = 2  # status


@dataclass(frozen=True)
class Parent:
    """The span that ours lie in: one of Triton's, or the caller's."""

    trace_id: str
    span_id: str

    @classmethod
    def of(cls, described: str | None) -> Parent | None:
        """From ``{"traceparent": …}``: what Triton tells of a request's trace, or its parameters; None without one."""
        try:
            match = _TRACEPARENT.fullmatch(json.loads(described)["traceparent"]) if described else None
        except (ValueError, KeyError, TypeError):
            return None
        return cls(match["trace"], match["span"]) if match else None


@dataclass(frozen=True)
class Call:
    """One call of the tensor model.

    Attributes:
        model: its name.
        version: its version.
        texts: how many shared it.
        started_ns: Unix time.
        ended_ns: likewise.
    """

    model: str
    version: int
    texts: int
    started_ns: int
    ended_ns: int


def spans(parent: Parent, arrived_ns: int, call: Call | None, error: str = "") -> list[dict[str, Any]]:
    """A request's spans, in OTLP's words.

    Args:
        parent: the span they lie in.
        arrived_ns: Unix time.
        call: what computed its last text; None when nothing did.
        error: the code of its failure; empty when it was answered.
    """
    if call is None and not error:
        return []  # from the cache
    waited_until_ns = call.started_ns if call else time.time_ns()
    made = [_span(parent, "queue", INTERNAL, (arrived_ns, waited_until_ns), {})]
    if call:
        attributes = {
            "triton.model_name": {"stringValue": call.model},
            "triton.model_version": {"intValue": str(call.version)},
            "bert_text.texts": {"intValue": str(call.texts)},
        }
        made.append(_span(parent, call.model, CLIENT, (call.started_ns, call.ended_ns), attributes))
    if error:
        made[-1]["status"] = {"code": ERROR, "message": error}
    return made


def _span(
    parent: Parent, name: str, kind: int, times_ns: tuple[int, int], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    start_ns, end_ns = times_ns
    return {
        "traceId": parent.trace_id,
        "spanId": secrets.token_hex(8),
        "parentSpanId": parent.span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


class Tracer:
    """Sends spans from a thread of its own.

    Args:
        endpoint: the collector's URL.
        service: what it is told who we are.
        delay_s: between two exports.
        log: takes a line for the server's log.
    """

    def __init__(self, endpoint: str, service: str, delay_s: float, log: Callable[[str], None]) -> None:
        self._url = urlsplit(endpoint)
        self._resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        self._delay_s = max(delay_s, MIN_DELAY_S)
        self._log = log
        self._waiting: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._log_next_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bert_text traces", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], log: Callable[[str], None]) -> Tracer | None:
        """The tracer that OpenTelemetry's variables ask for; None when they ask for none."""
        endpoint = environ.get(ENDPOINT)
        if not endpoint:
            return None
        delay = environ.get(DELAY_MS, "")
        delay_s = int(delay) / 1e3 if delay.isascii() and delay.isdigit() else DEFAULT_DELAY_MS / 1e3
        return cls(endpoint, environ.get(SERVICE) or "bert-triton", delay_s, log)

    def add(self, made: Sequence[dict[str, Any]]) -> None:
        """Takes spans; never waits."""
        if len(self._waiting) + len(made) > MAX_WAITING:
            self._dropped += len(made)
        else:
            self._waiting.extend(made)

    def close(self) -> None:
        """Sends what waits, for a moment."""
        self._ended.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._ended.wait(self._delay_s):
            self._export()
        self._export()

    def _export(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_EXPORTED))]
            try:
                self._post(json.dumps(self._message(batch)).encode())
            except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a port that is none
                self._dropped += len(batch)
                self._say(f"{type(error).__name__}: {error}")
                return
        if self._dropped:
            self._say("the collector takes them too slowly")

    def _message(self, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        scope = {"scope": {"name": "bert_text"}, "spans": list(batch)}
        return {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}

    def _post(self, body: bytes) -> None:
        connection = _connection(self._url)
        try:
            path = self._url.path + (f"?{self._url.query}" if self._url.query else "")
            connection.request("POST", path, body, {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        if response.status // 100 != 2:
            raise OSError(f"it answers {response.status}")

    def _say(self, why: str) -> None:
        if time.monotonic() >= self._log_next_s:
            self._log_next_s = time.monotonic() + LOG_EVERY_S
            self._log(f"{self._dropped} spans were not sent to {self._url.hostname}: {why}")
            self._dropped = 0


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname or "", url.port, timeout=EXPORT_TIMEOUT_S)


def tracer(log: Callable[[str], None]) -> Tracer | None:
    """The tracer of this process's environment."""
    return Tracer.from_environment(os.environ, log)
