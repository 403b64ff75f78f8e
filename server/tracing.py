"""What has Triton, and the text models in it, send traces to a collector.

Triton's own OpenTelemetry mode makes three spans of a request that carries a ``traceparent``: the request, the model,
and its execution. A text model answers after its execution has ended, so its spans would not tell where the time went,
and Triton cannot continue them in the tensor model: ``bert_text`` sends those itself, and finds the collector in the
environment variable that OpenTelemetry has for that.

Over gRPC Triton reads the header beyond its end (``GrpcServerCarrier`` of 2.51 makes a string of a pointer to
characters that no zero ends; the source of August 2026 still does). Where something other than a zero follows, for one
request in twenty here, it finds no valid header and traces nothing. So it is told to hand the header on to the models
as a parameter of the request, which it does right: the spans of ``bert_text`` are never lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from server.errors import OptionError

SERVICE_NAME = "bert-triton"
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SERVICE_VARIABLE = "OTEL_SERVICE_NAME"


def flags(endpoint: str | None) -> list[str]:
    """For tritonserver; none without an endpoint."""
    if endpoint is None:
        return []
    settings = (
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        # Of its own accord Triton traces nothing: every request that has a traceparent, and no other. It ignores the
        # flag that says whether the trace is recorded, so who samples (the gateway) sends none for the others.
        "rate=0",
        "count=-1",
        f"opentelemetry,url={endpoint}",
        f"opentelemetry,resource=service.name={SERVICE_NAME}",
    )
    return [*(f"--trace-config={setting}" for setting in settings), "--grpc-header-forward-pattern=^traceparent$"]


def environment(endpoint: str | None) -> dict[str, str]:
    """For tritonserver and its backends."""
    return {} if endpoint is None else {ENDPOINT_VARIABLE: endpoint, SERVICE_VARIABLE: SERVICE_NAME}


def parse_endpoint(text: str) -> str:
    """A URL of OTLP over HTTP, such as http://collector:4318/v1/traces.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(text)
    known = parts.scheme in ("http", "https") and parts.hostname and parts.path.strip("/")
    # A password in it could be read in the list of processes. Asking for the port says whether it is one.
    if not known or parts.username is not None or parts.port == 0:
        raise ValueError(text)
    return text


def check_passed(passed: Mapping[str, list[str]], endpoint: str | None) -> None:
    """Raises OptionError where both sides say how to trace."""
    if endpoint is not None and "trace-config" in passed:
        raise OptionError("--trace-config cannot be passed through together with --trace-endpoint; use one of them")
