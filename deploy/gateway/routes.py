"""What passes, and how: one row a path of HTTP or a method of gRPC, rendered as nginx's locations.

Everything that has no row is refused: model control, shared memory, tracing, logging and statistics among it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .directives import block, condition, mapping
from .request_log import GRPC, HTTP
from .settings import Settings

SERVICE = "/inference.GRPCInferenceService"
CHUNKS_BYTES = 65536
QUESTION_MAX_BYTES = 65536  # a question about a model is little more than its name
TRIES = 2
CONNECT_TIMEOUT_S = 1
MAX_BRACKETS = 10_000  # of JSON; no deeper can it be nested


@dataclass(frozen=True)
class HttpRoute:
    """A path that passes.

    Attributes:
        name: in the log.
        path: regular expression of the normalised path; ``MODELS`` stands for the names.
        methods: that pass.
        key: whether an API key is asked for.
    """

    name: str
    path: str
    methods: str = "GET|HEAD"
    key: bool = True


@dataclass(frozen=True)
class GrpcRoute:
    """A gRPC method that passes.

    Attributes:
        name: in the log, as for HTTP.
        method: of `SERVICE`.
        model: whether its message names a model.
        key: whether an API key is asked for.
    """

    name: str
    method: str
    model: bool = True
    key: bool = True


_MODEL = r"/v2/models/(?<model>MODELS)(?:/versions/[0-9]+)?"
INFER, HEALTH = "infer", "health"
HTTP_ROUTES = (
    HttpRoute(HEALTH, r"/v2/health/(?:live|ready)", key=False),
    HttpRoute("server", "/v2"),
    HttpRoute("metadata", _MODEL),
    HttpRoute("ready", _MODEL + "/ready"),
    HttpRoute("config", _MODEL + "/config"),
    HttpRoute(INFER, _MODEL + "/infer", methods="POST"),
)
GRPC_ROUTES = (
    GrpcRoute(HEALTH, "ServerLive", model=False, key=False),
    GrpcRoute(HEALTH, "ServerReady", model=False, key=False),
    GrpcRoute("server", "ServerMetadata", model=False),
    GrpcRoute("metadata", "ModelMetadata"),
    GrpcRoute("ready", "ModelReady"),
    GrpcRoute("config", "ModelConfig"),
    GrpcRoute(INFER, "ModelInfer"),
)


def limit_zones(settings: Settings) -> Iterator[str]:
    """What is counted for each address. Health has a share of its own: who watches it may still ask the model."""
    if settings.rate_per_minute is not None:
        for zone in ("requests", HEALTH):
            yield f"limit_req_zone $binary_remote_addr zone={zone}:10m rate={settings.rate_per_minute}r/m;"
    yield "limit_conn_zone $binary_remote_addr zone=under_way:10m;"
    for kind in ("limit_req", "limit_conn"):
        yield f"{kind}_status 429;"
        yield f"{kind}_log_level info;"  # the access log has them


def limits(settings: Settings, zone: str = "requests") -> tuple[str, ...]:
    """The directives that count a request."""
    at_once = f"limit_conn under_way {settings.concurrent_per_ip};"
    if settings.rate_per_minute is None:
        return (at_once,)
    burst = f"burst={settings.rate_burst} " if settings.rate_burst else ""
    return (f"limit_req zone={zone} {burst}nodelay;", at_once)


def locations(settings: Settings) -> Iterator[str]:
    """Everything that passes."""
    for http in HTTP_ROUTES:
        lines = list(_conditions(http, HTTP))
        if http.name == INFER:
            lines += condition("$json = refused", 413)
            lines += block("if ($json = large)", ["rewrite ^ /json$uri? last;"])
        lines += _bounds(settings, http, settings.max_body_bytes)
        yield from block(_location(settings, http.path), [*lines, *_to_http("$uri")])
        if http.name == INFER:
            bounds = _bounds(settings, http, min(settings.max_body_bytes, settings.max_json_bytes))
            handler = (f"set $max_brackets {MAX_BRACKETS};", "js_content gate.passJson;")
            head = _location(settings, f"/json(?<json_path>{http.path})")
            yield from block(head, ["internal;", *bounds, *handler])
            yield from block("location @json_to_triton", _to_http("$json_path"))
    for grpc in GRPC_ROUTES:
        lines = [*_conditions(grpc, GRPC), *_bounds(settings, grpc, settings.max_body_bytes)]
        handler = (f"set $asks_model {int(grpc.model)};", "js_content gate.pass;")
        yield from block(f"location = {SERVICE}/{grpc.method}", [*lines, *handler])
    yield from block("location @grpc_to_triton", _to_grpc())
    yield from block("location @grpc_relayed_503", _grpc_relayed())


def _location(settings: Settings, path: str) -> str:
    names = "|".join(re.escape(name) for name in settings.models)
    # \\z, because $ would let a line feed follow.
    return f'location ~ "^{path.replace("MODELS", names)}\\z"'


def json_size() -> Iterator[str]:
    """``$json``: none of a request's JSON can do harm if it is small; more of it is looked at, or refused.

    Triton's parser recurses: JSON nested 50,000 times, in 100,000 bytes, ends a Triton whose threads have the usual
    stack of 8 MiB, and so does any JSON of 4 MB. After that it would be sent to the next Triton.
    """
    small = "[12]?[0-9]{1,4}"  # bytes: up to 29,999
    # A request whose JSON is followed by binary tensors says where it ends; one without this header is all JSON.
    head_and_body = '"$http_inference_header_content_length|$content_length"'
    kinds = (f'"~^{small}[|]" small;', f'"~^[|]{small}$" small;', '"~^[|]" large;')
    yield from mapping(head_and_body, "$json", ["default refused;", *kinds])


def forwarding(settings: Settings) -> Iterator[str]:
    """How a Triton is asked, and when another one is.

    Inference changes nothing, so a request may be sent again even if the first Triton had begun to answer it.
    """
    yield "proxy_http_version 1.1;"
    yield 'proxy_set_header connection "";'
    # Of a client's headers only these, and of each the one that was looked at, should there be several.
    yield "proxy_pass_request_headers off;"
    for header in ("inference-header-content-length", "accept-encoding", "tracestate"):
        yield f"proxy_set_header {header} $http_{header.replace('-', '_')};"
    yield "proxy_buffers 16 32k;"
    yield "proxy_buffer_size 16k;"
    yield "proxy_busy_buffers_size 64k;"
    yield "proxy_max_temp_file_size 0;"
    yield "grpc_intercept_errors on;"
    for kind, statuses in (("proxy", "http_500 http_502 http_503 http_504"), ("grpc", "http_502 http_503 http_504")):
        yield f'{kind}_set_header authorization "";'
        yield f"{kind}_set_header x-request-id $gateway_request_id;"
        yield f"{kind}_set_header traceparent $passed_traceparent;"
        yield from timeouts(kind, settings)
        yield f"{kind}_next_upstream error timeout invalid_header {statuses} non_idempotent;"
        yield f"{kind}_next_upstream_tries {TRIES};"
        yield f"{kind}_next_upstream_timeout {TRIES * settings.try_timeout_s}s;"


def timeouts(kind: str, settings: Settings) -> Iterator[str]:
    """Of one try; ``kind`` is proxy or grpc."""
    yield f"{kind}_connect_timeout {CONNECT_TIMEOUT_S}s;"
    yield f"{kind}_send_timeout {settings.try_timeout_s}s;"
    yield f"{kind}_read_timeout {settings.try_timeout_s}s;"


def _conditions(route: HttpRoute | GrpcRoute, wire: str) -> Iterator[str]:
    yield f"set $route {route.name};"
    yield from condition(f"$wire != {wire}", 403)
    if isinstance(route, HttpRoute):
        yield from condition(f"$request_method !~ ^({route.methods})$", 403)
    if route.key:
        yield from condition('$key_name = ""', 401)
    if wire == HTTP:
        # Triton would unpack a small body to any size.
        yield from condition('$http_content_encoding !~ "^(identity)?$"', 415)


def _bounds(settings: Settings, route: HttpRoute | GrpcRoute, infer_max_bytes: int) -> list[str]:
    max_bytes = infer_max_bytes if route.name == INFER else QUESTION_MAX_BYTES
    return [
        *limits(settings, HEALTH if route.name == HEALTH else "requests"),
        f"client_max_body_size {max_bytes};",
        # gate.js reads what is in memory. Sent in chunks, a body takes more than its size.
        f"client_body_buffer_size {max_bytes + CHUNKS_BYTES};",
    ]


def _to_http(path: str) -> Iterator[str]:
    # The path that was checked, not the one that was sent: the two may read differently. And no query.
    yield f"rewrite ^ {path}? break;"
    yield "add_header x-request-id $gateway_request_id always;"
    yield "proxy_pass http://tritons_http;"


def _to_grpc() -> Iterator[str]:
    yield "rewrite ^ $uri? break;"  # as for HTTP
    yield "add_header x-request-id $gateway_request_id always;"
    yield "grpc_pass grpc://tritons_grpc;"


def _grpc_relayed() -> Iterator[str]:
    """A refusal of the last Triton that was tried, in its words; gate.js made a 503 of it."""
    yield "default_type application/grpc;"
    yield "add_header x-request-id $gateway_request_id always;"
    yield "add_header grpc-status $relayed_grpc_status always;"
    yield "add_header grpc-message $upstream_http_grpc_message always;"
    yield 'return 200 "";'
