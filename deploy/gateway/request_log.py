"""What is known and logged of a request: its protocol, key, ids and outcome, and nothing that its sender wrote.

No path, no query, no header of the client's own making: each may hold a text of a user. Ids are taken over from a
client only if they are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import keys
from .directives import block, mapping
from .keys import ApiKey
from .refusals import GRPC_STATUSES
from .settings import Settings

GRPC, HTTP = "grpc", "http"

# (field, nginx's value); access_log.mtail reads some of them, in this order
FIELDS = (
    ("time", '"$time_iso8601"'),
    ("request_id", '"$gateway_request_id"'),
    ("trace_id", '"$trace_id"'),
    ("client", '"$remote_addr"'),
    ("key", '"$key_name"'),
    ("protocol", '"$wire"'),
    ("route", '"$log_route"'),
    ("model", '"$log_model"'),
    ("code", '"$code"'),
    ("duration_s", "$request_time"),
    ("bytes_in", "$request_length"),
    ("bytes_out", "$bytes_sent"),
    ("tries", '"$upstream_addr"'),
    ("tries_status", '"$upstream_status"'),
    ("tries_duration_s", '"$upstream_response_time"'),
)


def variables(settings: Settings, api_keys: Sequence[ApiKey] | None) -> Iterator[str]:
    """The maps that make ``$wire``, ``$key_name``, ``$gateway_request_id``, ``$trace_id``, ``$passed_traceparent``."""
    grpc = f'"~^HTTP/2\\.0:application/grpc(?:$|[+;])" {GRPC};'
    yield from mapping('"$server_protocol:$http_content_type"', "$wire", [f"default {HTTP};", grpc])
    yield from mapping("$http_authorization", "$key_name", keys.nginx_map(api_keys).splitlines())
    hexadecimal = '"~^[0-9a-fA-F-]{16,64}$" $http_x_request_id;'
    yield from mapping("$http_x_request_id", "$gateway_request_id", ["default $request_id;", hexadecimal])
    yield from block('split_clients "$request_id" $sampled', _sampled(settings.trace_percent))
    yield from mapping("$request_id", "$span_id", ['"~^(?<span>[0-9a-f]{16})" $span;'])
    # https://www.w3.org/TR/trace-context/#traceparent-header: neither id may be all zeros.
    w3c = '"~^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$" $http_traceparent;'
    ours = 'default "00-$request_id-$span_id-$sampled";'
    yield from mapping("$http_traceparent", "$traceparent", [ours, w3c])
    yield from mapping("$traceparent", "$trace_id", ['"~^00-(?<trace>[0-9a-f]{32})-" $trace;'])
    # Triton 2.51 traces every request that has one, whatever its flag says.
    yield from mapping("$traceparent", "$passed_traceparent", ['default "";', '"~[13579bdf]$" $traceparent;'])


def directives() -> Iterator[str]:
    """The access log, one JSON object a line."""
    for name in ("model", "route"):
        yield from mapping(f"${name}", f"$log_{name}", [f"default ${name};", '"" none;'])
    # A refusal of Triton's, relayed.
    relayed = ["default 14;", '"~^[0-9]+$" $upstream_http_grpc_status;']
    yield from mapping("$upstream_http_grpc_status", "$relayed_grpc_status", relayed)
    yield from mapping('"$wire:$sent_http_grpc_status$sent_trailer_grpc_status:$status"', "$code", _codes())
    fields = ",".join(f'"{name}":{value}' for name, value in FIELDS)
    yield f"log_format requests escape=json '{{{fields}}}';"
    yield "access_log /dev/stdout requests;"


def _sampled(percent: int) -> list[str]:
    """W3C's flag of a trace that is to be recorded."""
    return {0: ["* 00;"], 100: ["* 01;"]}.get(percent, [f"{percent}% 01;", "* 00;"])


def _codes() -> Iterator[str]:
    """HTTP's status; gRPC's name for its own, which comes in the headers of a refusal and else in the trailers."""
    yield "default UNKNOWN;"
    yield f'"~^{HTTP}:[^:]*:(?<http_code>[0-9]+)$" $http_code;'
    for number, name in enumerate(GRPC_STATUSES):
        yield f'"~^{GRPC}:{number}:" {name};'
    yield f'"~^{GRPC}::499$" CANCELLED;'
