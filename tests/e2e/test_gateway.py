"""Who and what the gateway lets in, how much, and what it says and counts: real nginx, two real Tritons."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import re
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

import bert_triton_client as btc
from deploy.gateway import routes
from server import TritonServer
from tests.collector import Collector
from tests.e2e import client_models, gateways, triton
from tests.e2e.gateways import KEYS, Gateway, infer_body, infer_message, labels

pytestmark = gateways.needed

MAX_BODY_BYTES = 2 * 2**20
MAX_JSON_BYTES = 2**20
CONCURRENT_PER_IP = 8
INFER = "/v2/models/sentiment/infer"
PROTOCOLS = ["http", "grpc"]
HTTP_MODEL = ("http", "sentiment")


@pytest.fixture(scope="module")
def tritons(
    module_server_factory: Callable[..., TritonServer], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> list[TritonServer]:
    """Two that serve the same models."""
    repository, backends = client_models.write(tmp_path_factory.mktemp("gateway_models"))
    options = {"backends": backends, "models": ["sentiment", "sentiment_tensors"], "trace_endpoint": collector.url}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        return [module_server_factory(repository, **options) for _ in range(2)]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    yield from gateways.factory(tmp_path_factory.mktemp("gateways"))


@pytest.fixture(scope="module")
def gateway(tritons: list[TritonServer], start: Callable[..., Gateway]) -> Gateway:
    """Without a limit on the rate."""
    return start(
        tritons,
        MAX_BODY_BYTES=MAX_BODY_BYTES,
        MAX_JSON_BYTES=MAX_JSON_BYTES,
        CONCURRENT_PER_IP=CONCURRENT_PER_IP,
        CLIENT_TIMEOUT_S=2,
        TRACE_PERCENT=0,
    )


@pytest.fixture(scope="module")
def limited(tritons: list[TritonServer], start: Callable[..., Gateway]) -> Gateway:
    """With the limits that are the default, a certificate of its own making, and a proxy before it."""
    return start(
        tritons,
        RATE_PER_MINUTE=100,
        CERTIFICATE="self-signed",
        PRIVATE_KEY=None,
        METRICS_HOST="127.0.0.9",
        TRUSTED_PROXIES="127.0.0.9",
    )


@pytest.fixture
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    with gateway.channel() as channel:
        yield channel


def refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    """Status and message; a refusal consists of trailers alone."""
    exc: Any = error.value
    assert list(exc.initial_metadata()) == []
    assert "x-request-id" in dict(exc.trailing_metadata())
    return exc.code().name, exc.details()


# --- what passes ----------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_this_projects_client_needs_passes(gateway: Gateway, protocol: str) -> None:
    texts = [f"text {i}" for i in range(300)]
    with gateway.client(protocol) as client:
        assert [answer.label for answer in client.classify(texts)] == texts
        assert client.classify("again", version="1").label == "again"
        assert client.is_live()
        assert client.is_ready()
        assert client.is_model_ready("sentiment")
        assert client.server_info().name
        assert client.model_info("sentiment").max_batch_size == 64
        with pytest.raises(btc.InvalidTextError):
            client.classify("")


def test_http_reaches_the_path_that_was_checked(gateway: Gateway) -> None:
    for path in ("/v2", "/v2/models/./sentiment/config", "/v2/models/sentiment/versions/1/ready?a=b", "//v2"):
        assert gateway.http("GET", path).status == 200, path


def test_health_is_for_everybody(gateway: Gateway, channel: grpc.Channel) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert gateway.http("GET", path, key=None).status == 200
    for method, answer in (("ServerLive", service_pb2.ServerLiveResponse(live=True)),):
        assert gateway.call(channel, method, key=None) == answer.SerializeToString()


# --- what does not --------------------------------------------------------------------------------
REFUSED_PATHS = (
    "GET /",
    "GET /metrics",
    "GET /v2/models",
    "GET /v2/models/stats",
    "GET /v2/models/sentiment/stats",
    "GET /v2/models/sentiment/versions/1/stats",
    "POST /v2/repository/index",
    "POST /v2/repository/models/sentiment/load",
    "POST /v2/repository/models/sentiment/unload",
    "GET /v2/systemsharedmemory/status",
    "POST /v2/systemsharedmemory/region/a/register",
    "POST /v2/cudasharedmemory/region/a/register",
    "GET /v2/trace/setting",
    "POST /v2/models/sentiment/trace/setting",
    "GET /v2/logging",
    "POST /v2/logging",
    "POST /v2/models/sentiment/generate",
    "POST /v2/models/sentiment/generate_stream",
    "GET /v2/models/sentiment_tensors",
    "GET /v2/models/sentiment_tensors/config",
    "POST /v2/models/sentiment_tensors/infer",
    "POST /v2/models/sentimentX/infer",
    "GET /v2/models/sentiment/infer",
    "DELETE /v2/models/sentiment/infer",
    "POST /v2/models/sentiment/config",
    "POST /v2/models/sentiment/versions/x/infer",
    "POST /v2/models/sentiment/infer/",
    "POST /v2/models/sentiment/infer%0A",
    "POST /json/v2/models/sentiment/infer",
    "GET /http_early_400",
    "POST /v2/models/sentiment/../../repository/index",
    "POST /v2/models/sentiment/%2e%2e/%2e%2e/repository/index",
    "POST /v2//repository/index",
    "GET /v2/models/sentiment%2Fstats",
    "POST /inference.GRPCInferenceService/ModelInfer",
    "POST /inference.GRPCInferenceService/RepositoryIndex",
)


def test_every_other_path_is_refused(gateway: Gateway) -> None:
    for asked in REFUSED_PATHS:
        method, path = asked.split()
        reply = gateway.http(method, path, b"{}")
        assert (reply.status, reply.headers["content-type"]) == (403, "application/json"), asked
        assert "nothing else" in reply.error
        assert gateway.await_request(reply.headers["x-request-id"])["tries"] == "", asked


ALLOWED_METHODS = {
    "ModelInfer",
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
}


def test_every_other_grpc_method_is_refused(gateway: Gateway, channel: grpc.Channel) -> None:
    every = {method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    others = ("/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/", "/v2/models/sentiment/config")
    assert len(every) > 15
    for method in (*sorted(every - ALLOWED_METHODS), *others):
        with pytest.raises(grpc.RpcError) as error:
            gateway.call(channel, method)
        assert refusal(error)[0] == "PERMISSION_DENIED", method


def other_model(field: int = 1, name: str = "sentiment_tensors") -> bytes:
    return bytes([field << 3 | 2, len(name)]) + name.encode()


def test_grpc_asks_only_the_models_that_are_named(gateway: Gateway, channel: grpc.Channel) -> None:
    messages = (
        other_model(),
        b"",
        infer_message("a") + other_model(),  # of two names, protobuf takes the last
        other_model() + infer_message("a"),
        infer_message("a", model="sentiment "),
        infer_message("a") + other_model(name="sentiment"),
        b"\x8a\x80\x80\x80\x00" + other_model()[1:],  # the field's number written in more bytes
    )
    for method in ("ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig"):
        for message in messages:
            with pytest.raises(grpc.RpcError) as error:
                gateway.call(channel, method, message)
            assert refusal(error)[0] == "PERMISSION_DENIED", (method, message)
    unknown_fields = b"\x78\x01" + b"\x79" + b"8" * 8 + b"\x7d" + b"4" * 4
    assert labels(gateway.call(channel, "ModelInfer", unknown_fields + infer_message("a"))) == ["a"]


def test_a_path_of_grpc_is_passed_on_as_it_was_checked(gateway: Gateway, channel: grpc.Channel) -> None:
    for path in (f"/{gateways.SERVICE}//ModelInfer?a=b", f"{gateways.SERVICE}/Model%49nfer"):
        assert labels(gateway.call(channel, path, infer_message("a"))) == ["a"]


def test_a_long_message_of_an_error_is_passed_on(gateway: Gateway, channel: grpc.Channel) -> None:
    message = service_pb2.ModelInferRequest.FromString(infer_message("a"))
    message.model_version = "9" * 5000
    with pytest.raises(grpc.RpcError, match="9" * 5000) as error:
        gateway.call(channel, "ModelInfer", message.SerializeToString())
    assert refusal(error)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x7f",
        b"\x0a\x20short",
        b"\x0b",
        b"\xff" * 12,
        b"\x08" + b"\xff" * 11,
        b"\x00\x01" + infer_message("a"),
        infer_message("a") + b"\x8a\x80\x80\x80\x10" + other_model()[1:],  # 2**32 + 10, which Triton reads as 10
        infer_message("a") + b"\x8a\x80\x80\x80\x80\x02" + other_model()[1:],
        infer_message("a") + b"\x78\x01" * 1000,
    ],
    ids=[
        *("no length", "endless", "short", "group", "no tag", "no number"),
        *("field 0", "long tag", "longer tag", "many fields"),
    ],
)
def test_what_is_no_message_is_refused(gateway: Gateway, channel: grpc.Channel, message: bytes) -> None:
    with pytest.raises(grpc.RpcError) as error:
        gateway.call(channel, "ModelInfer", message)
    assert refusal(error) == ("INVALID_ARGUMENT", "the request is malformed, or its JSON has too many brackets")


def test_compressed_requests_are_refused(gateway: Gateway, channel: grpc.Channel) -> None:
    packed = gzip.compress(infer_body("a" * 1000))
    assert gateway.http("POST", INFER, packed, {"Content-Encoding": "gzip"}).status == 415
    twice = {"Content-Encoding": "", "content-encoding": "gzip"}  # one is looked at, and none is passed on
    assert "failed to parse" in gateway.http("POST", INFER, packed, twice).error
    with pytest.raises(grpc.RpcError) as error:
        gateway.call(channel, "ModelInfer", infer_message("a" * 1000), compression=grpc.Compression.Gzip)
    assert refusal(error)[0] == "UNIMPLEMENTED"


def test_plain_http_on_the_port_is_told_to_speak_tls(gateway: Gateway) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://localhost:{gateway.port}/v2", timeout=60)
    assert error.value.code == 400
    assert "https://" in json.load(error.value)["error"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(gateway: Gateway, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.maximum_version = version
    with socket.create_connection(("localhost", gateway.port), 60) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


# --- keys -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("key", [None, "", KEYS["shop"].upper(), KEYS["shop"] + "x", KEYS["shop"][:-1]])
def test_without_a_key_nobody_comes_in(gateway: Gateway, protocol: str, key: str | None) -> None:
    with gateway.client(protocol, key) as client, pytest.raises(btc.AccessDeniedError, match="no valid API key"):
        client.classify("a")


def test_a_refused_key_is_said_in_http_s_way(gateway: Gateway) -> None:
    reply = gateway.http("GET", "/v2/models/sentiment/config", key=None)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")


def logged(gateway: Gateway, wanted: dict[str, str]) -> bool:
    return any(wanted.items() <= line.items() for line in gateway.requests())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_key_comes_in_and_its_name_is_logged(gateway: Gateway, protocol: str) -> None:
    for name, key in KEYS.items():
        with gateway.client(protocol, key) as client:
            assert client.classify("a").label == "a"
        wanted = {"key": name, "protocol": protocol, "route": "infer"}
        triton.eventually(functools.partial(logged, gateway, wanted), 60, "a line in the log")


# --- sizes ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_that_is_too_large_is_refused(gateway: Gateway, protocol: str) -> None:
    with gateway.client(protocol, max_request_bytes=2**30) as client:
        just = "a" * (MAX_BODY_BYTES - 1000)
        assert client.classify(just).label == just
        with pytest.raises(btc.InvalidRequestError, match="larger than max") as error:
            client.classify("a" * MAX_BODY_BYTES)
        assert type(error.value) is btc.InvalidRequestError
        assert client.classify("still there").label == "still there"


def test_a_chunked_request_that_is_too_large_is_refused(gateway: Gateway) -> None:
    chunks = (b"x" * 65536 for _ in range(MAX_BODY_BYTES // 65536 + 1))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):  # it may close before it has all
        assert gateway.http("POST", INFER, chunks, {"Transfer-Encoding": "chunked"}).status == 413


def test_json_has_a_smaller_limit(gateway: Gateway) -> None:
    just = "a" * (MAX_JSON_BYTES - 1000)
    assert gateway.http("POST", INFER, infer_body(just)).status == 200
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
        reply = gateway.http("POST", INFER, infer_body(just + "a" * 1000))
        assert (reply.status, f"{MAX_JSON_BYTES} of JSON" in reply.error) == (413, True)
    for length in ("30000", "-1", "x", "1x"):
        assert gateway.http("POST", INFER, infer_body("a"), {"Inference-Header-Content-Length": length}).status == 413


def nested(depth: int, room: int = 0) -> bytes:
    """An inference whose text is in so many more lists, which Triton takes; with spaces behind."""
    before, text, after = infer_body("a").partition(b'"a"')
    return before + b"[" * depth + text + b"]" * depth + after + b" " * room


def test_nested_json_that_ends_a_triton_does_not_reach_it(gateway: Gateway, tritons: list[TritonServer]) -> None:
    assert gateway.http("POST", INFER, nested(1000)).status == 200
    assert gateway.http("POST", INFER, nested(1000, room=50_000)).status == 200
    chunked = {"Transfer-Encoding": "chunked"}
    for depth in (14_000, 60_000, 300_000):
        for body in (nested(depth, room=50_000), b"[" * depth + b" " * 50_000, b'{"a":' * depth + b" " * 50_000):
            for reply in (
                gateway.http("POST", INFER, body[:MAX_JSON_BYTES]),
                gateway.http("POST", INFER, iter((body[:MAX_JSON_BYTES],)), chunked),
            ):
                assert (reply.status, "too many brackets" in reply.error) == (400, True)
    # What is small enough to pass cannot be nested deeply enough.
    assert gateway.http("POST", INFER, b"[" * 29_999).status == 500
    assert gateway.http("POST", INFER, nested(14_900)).status == 200
    assert gateway.http("POST", INFER, b"[" * 60_000, {"Inference-Header-Content-Length": "29999"}).status in (400, 500)
    assert all(server.running for server in tritons)


def test_json_in_chunks_is_taken_up_to_the_same_size(gateway: Gateway) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    body = infer_body("a" * (MAX_JSON_BYTES - len(infer_body(""))))
    assert len(body) == MAX_JSON_BYTES
    pieces = [body[at : at + 8192] for at in range(0, len(body), 8192)]
    assert gateway.http("POST", INFER, iter(pieces), chunked).status == 200
    # nginx keeps what is around the chunks too, five bytes for each: a sixth of its buffer is left for bytes alone.
    room = (MAX_JSON_BYTES + routes.CHUNKS_BYTES) // len(in_single_bytes(b"a"))
    for count, status in ((room - 1000, 200), (room + 1000, 413)):
        body = infer_body("a" * (count - len(infer_body(""))))
        assert gateway.http("POST", INFER, in_single_bytes(body) + b"0\r\n\r\n", chunked).status == status


def in_single_bytes(body: bytes) -> bytes:
    """Each byte a chunk, in few writes: as many chunks sent one by one take seconds."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body)


def raw(gateway: Gateway, request: bytes) -> bytes:
    """The answer to what no HTTP library would send."""
    context = ssl.create_default_context(cafile=gateway.folder / "chain.pem")
    with (
        socket.create_connection(("localhost", gateway.port), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request)
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"A-b /v2 HTTP/1.1", 400),
        (b"GET  HTTP/1.1", 400),
        (b"GET /v2 HTTP/9.9", 505),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip", 501),
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b", 400),
        (b"TRACE /v2 HTTP/1.1\r\nHost: a", 405),
    ],
    ids=["method", "path", "version", "long", "encoding", "hosts", "trace"],
)
def test_what_is_no_request_is_refused_in_json(gateway: Gateway, request_line: bytes, status: int) -> None:
    head, _, body = raw(gateway, request_line + b"\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    assert b"application/json" in head
    assert json.loads(body)["error"]


def test_headers_that_are_too_large_are_refused(gateway: Gateway) -> None:
    assert gateway.http("GET", "/v2", headers={"X-Large": "x" * 10_000}).status == 431
    assert gateway.http("GET", "/v2", headers={"X-Large": "x" * 7_000}).status == 200


# --- limits of an address -------------------------------------------------------------------------
def test_a_hundred_requests_a_minute_and_a_burst(limited: Gateway) -> None:
    replies = [limited.http("GET", "/v2", source="127.0.0.2") for _ in range(60)]
    passed = [reply.status == 200 for reply in replies]
    assert all(passed[:21])
    assert passed.count(False) > 10
    refused = next(reply for reply in replies if reply.status != 200)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "100 a minute" in refused.error
    assert limited.http("GET", "/v2/health/ready", source="127.0.0.2").status == 200
    assert limited.http("GET", "/v2", source="127.0.0.3").status == 200
    wait_s = int(refused.headers["retry-after"])
    time.sleep(wait_s)
    assert limited.http("GET", "/v2", source="127.0.0.2").status == 200


def test_wrong_keys_and_wrong_paths_are_counted_too(limited: Gateway) -> None:
    for source, path, key, status in (("127.0.0.4", "/v2", None, 401), ("127.0.0.5", "/metrics", KEYS["shop"], 403)):
        found = [limited.http("GET", path, key=key, source=source).status for _ in range(60)]
        assert found[0] == status
        assert set(found) == {status, 429}


def test_grpc_is_counted_by_request_and_not_by_connection(limited: Gateway) -> None:
    with limited.channel() as channel:
        call = channel.unary_unary(f"{gateways.SERVICE}/ModelInfer")
        key = (("authorization", f"Bearer {KEYS['shop']}"),)
        done = [call.future(infer_message("a"), metadata=key, timeout=60) for _ in range(60)]
        codes = [one.code().name for one in done]
        refused = next(one for one in done if one.code() is not grpc.StatusCode.OK)
        assert dict(refused.trailing_metadata())["retry-after"] == "1"
    assert codes.count("OK") >= 21
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    with limited.client("grpc", max_retries=0) as client, pytest.raises(btc.OverloadedError, match="100 a minute"):
        for _ in range(60):
            client.classify("a")


def hold(gateway: Gateway, source: str, marker: Path) -> int:
    """A request whose last byte comes when the marker is gone; asked again while there is no room for it."""
    while (status := held_once(gateway, source, marker)) == 429:
        pass
    return status


def held_once(gateway: Gateway, source: str, marker: Path) -> int:
    whole = infer_body("a")
    with contextlib.closing(gateway.connection(source)) as connection:
        connection.putrequest("POST", INFER)
        connection.putheader("Authorization", f"Bearer {KEYS['shop']}")
        connection.putheader("Content-Length", str(len(whole) + 1000))
        connection.endheaders(whole[:-1])
        sent = len(whole) - 1
        while marker.exists():
            connection.sock.settimeout(0.1)
            try:
                connection.sock.recv(1)
            except TimeoutError:
                connection.send(b" ")
                sent += 1
            else:
                return 429  # an answer before the end
        connection.sock.settimeout(60)
        connection.send(b" " * (len(whole) + 999 - sent) + b"}")
        return connection.getresponse().status


def test_so_many_requests_of_an_address_at_once(gateway: Gateway, tmp_path: Path) -> None:
    marker = tmp_path / "held"
    marker.touch()
    with ThreadPoolExecutor(CONCURRENT_PER_IP) as pool:
        try:
            held = [pool.submit(hold, gateway, "127.0.0.6", marker) for _ in range(CONCURRENT_PER_IP)]
            triton.eventually(lambda: gateway.http("GET", "/v2", source="127.0.0.6").status == 429, 60, "the limit")
            assert gateway.http("GET", "/v2", source="127.0.0.7").status == 200
        finally:
            marker.unlink()
        assert [one.result() for one in held] == [200] * CONCURRENT_PER_IP
    assert gateway.http("GET", "/v2", source="127.0.0.6").status == 200


def test_an_address_is_believed_only_of_a_proxy_that_is_trusted(limited: Gateway) -> None:
    forwarded = {
        "X-Forwarded-For": "203.0.113.1, 203.0.113.2",
        "X-Real-IP": "203.0.113.3",
        "Forwarded": "for=203.0.113.4",
    }
    for source, client in (("127.0.0.10", "127.0.0.10"), ("127.0.0.9", "203.0.113.2")):
        reply = limited.http("GET", "/v2", headers=forwarded, source=source)
        assert limited.await_request(reply.headers["x-request-id"])["client"] == client


# --- clients that are slow or many ----------------------------------------------------------------
def closed(connection: socket.socket) -> bool:
    """Whether the gateway ends a connection, within a test's patience; what it says before is read."""
    try:
        while connection.recv(4096):
            pass
    except (ConnectionResetError, ssl.SSLError):
        pass
    return True


def test_a_slow_client_is_cut_off(gateway: Gateway) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['shop']}\r\n".encode()
    context = ssl.create_default_context(cafile=gateway.folder / "chain.pem")
    sent = {
        "no handshake": None,
        "nothing": b"",
        "half a header": head,
        "half a body": head + b"Content-Length: 9\r\n\r\n1",
    }
    with contextlib.ExitStack() as stack:
        connections = {}
        for what, data in sent.items():
            sock = stack.enter_context(socket.create_connection(("localhost", gateway.port), 60))
            if data is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
                sock.sendall(data)
            connections[what] = sock
        for what, sock in connections.items():
            assert closed(sock), what


def test_a_thousand_idle_connections_leave_room(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 60))
        with gateway.client("grpc") as client, gateway.client("http") as other:
            assert client.classify("a").label == other.classify("a").label == "a"


# --- what it says and counts ----------------------------------------------------------------------
def test_no_text_of_a_user_is_written_anywhere(gateway: Gateway, channel: grpc.Channel) -> None:
    secret = "Aunt-Mary-is-ill"
    for path in (INFER, f"{INFER}?text={secret}", f"/v2/models/{secret}/infer", f"/v2/models/sentiment/{secret}"):
        for name in ("User-Agent", "Referer", "X-Request-Id", "Traceparent", "Host", "Content-Type", "Accept", secret):
            gateway.http("POST", path, infer_body(secret), {name: secret})
    gateway.http(secret, f"/{secret}", infer_body(secret))
    gateway.http("POST", INFER, f"not JSON {secret}".encode(), {"X-Large": secret * 1000})
    gateway.http("POST", INFER, f"not JSON {secret}".encode())
    large = infer_body(secret * (MAX_BODY_BYTES // len(secret)))
    with contextlib.suppress(OSError):
        assert gateway.http("POST", f"{INFER}?{secret}", large).status == 413
    gateway.call(channel, "ModelInfer", infer_message(secret), {"x-request-id": secret, secret.lower(): secret})
    for message in (infer_message(secret, model=secret), infer_message(secret * (MAX_BODY_BYTES // len(secret)))):
        with pytest.raises(grpc.RpcError):
            gateway.call(channel, "ModelInfer", message)
    with pytest.raises(grpc.RpcError):
        gateway.call(channel, f"/{secret}/{secret}")
    last = gateway.http("GET", "/v2").headers["x-request-id"]
    gateway.await_request(last)
    assert secret.lower() not in gateway.output().lower()
    assert not [path for path in gateway.state.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    too_large = [event for event in gateway.events("nginx") if "too large body" in event["message"]]
    assert too_large, "nginx's own complaints are to be seen"
    assert {"level", "message", "client"} <= too_large[0].keys()


def test_no_key_is_written_anywhere(gateway: Gateway) -> None:
    assert not [key for key in KEYS.values() if key in gateway.output()]


def test_requests_have_ids_in_answer_and_log(gateway: Gateway, channel: grpc.Channel) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    given = {"x-request-id": "0123456789abcdef-0001", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    reply = gateway.http("POST", INFER, infer_body("a"), given)
    assert reply.headers["x-request-id"] == given["x-request-id"]
    line = gateway.await_request(given["x-request-id"])
    assert (line["trace_id"], line["protocol"], line["route"], line["model"]) == (trace, "http", "infer", "sentiment")
    assert (line["code"], line["client"], line["key"]) == ("200", "127.0.0.1", "shop")
    assert line["duration_s"] >= 0

    answer, call = channel.unary_unary(f"{gateways.SERVICE}/ModelInfer").with_call(
        infer_message("a"),
        metadata=(("authorization", f"Bearer {KEYS['blog']}"), ("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01")),
    )
    assert labels(answer) == ["a"]
    line = gateway.await_request(dict(call.initial_metadata())["x-request-id"])
    assert (line["protocol"], line["route"], line["model"], line["code"]) == ("grpc", "infer", "sentiment", "OK")
    assert line["trace_id"] == line["request_id"] != "0" * 32


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_traces_that_are_recorded_reach_a_triton(
    gateway: Gateway, channel: grpc.Channel, collector: Collector, protocol: str
) -> None:
    def asked(flag: str) -> str:
        """The trace of a request."""
        given = {"x-request-id": secrets.token_hex(16)}
        if flag:
            given["traceparent"] = f"00-{secrets.token_hex(16)}-b7ad6b7169203331-{flag}"
        if protocol == "http":
            gateway.http("POST", INFER, infer_body("a"), given)
        else:
            gateway.call(channel, "ModelInfer", infer_message("a"), given)
        return str(gateway.await_request(given["x-request-id"])["trace_id"])

    def seen() -> set[str]:
        return {span["traceId"] for span in collector.spans()}

    without = [asked(flag) for flag in ("", "00", "", "00")]
    # Of both Tritons, each of which sends its spans in their order; over gRPC Triton loses some (server/tracing.py).
    recorded = [{asked("01") for _ in range(4)} for _ in range(10 if protocol == "grpc" else 1)]
    triton.eventually(lambda: any(seen() >= four for four in recorded), 60, "the spans")
    assert not seen() & set(without)


def counted(gateway: Gateway) -> dict[tuple[str, str, str], int]:
    """(protocol, model, code): requests, as mtail has them; codes that did not occur yet are left out."""
    series = re.compile(r'gateway_requests_total\{code="(.*)",model="(.*)",protocol="(.*)"\}')
    found = ((series.fullmatch(name), value) for name, value in gateway.metrics().items())
    return {(name[3], name[2], name[1]): int(value) for name, value in found if name and value}


def logged_codes(gateway: Gateway) -> dict[tuple[str, str, str], int]:
    """The same, as the access log has them."""
    return dict(Counter((line["protocol"], line["model"], line["code"]) for line in gateway.requests()))


def test_every_request_is_counted_refusals_too(gateway: Gateway, channel: grpc.Channel) -> None:
    before = Counter(logged_codes(gateway))
    for key, method, path in (("shop", "POST", INFER), (None, "POST", INFER), ("shop", "GET", "/nowhere")):
        gateway.http(method, path, infer_body("a"), key=key and KEYS[key])
    gateway.call(channel, "ModelInfer", infer_message("a"))
    for message, key in ((infer_message("a"), None), (other_model(), "shop"), (infer_message(""), "shop")):
        with pytest.raises(grpc.RpcError):
            gateway.call(channel, "ModelInfer", message, key=key and KEYS[key])
    wanted = {
        ("http", "sentiment", "200"),
        ("http", "sentiment", "401"),
        ("http", "none", "403"),
        ("grpc", "sentiment", "OK"),
        ("grpc", "none", "UNAUTHENTICATED"),
        ("grpc", "none", "PERMISSION_DENIED"),
        ("grpc", "sentiment", "INVALID_ARGUMENT"),
    }
    triton.eventually(lambda: set(Counter(logged_codes(gateway)) - before) >= wanted, 60, "the lines of the log")
    triton.eventually(lambda: counted(gateway) == logged_codes(gateway), 60, "the counts")
    found = gateway.metrics()
    of_model = {code: n for (protocol, model, code), n in counted(gateway).items() if (protocol, model) == HTTP_MODEL}
    total = sum(number for code, number in of_model.items() if code[0] in "235")
    assert 0 < total < sum(of_model.values())
    assert 'gateway_requests_total{code="DATA_LOSS",model="sentiment",protocol="grpc"}' in found
    assert found['gateway_request_duration_seconds_count{model="sentiment",protocol="http"}'] == total
    assert found['gateway_request_duration_seconds_bucket{model="sentiment",protocol="http",le="+Inf"}'] == total


def test_its_metrics_have_an_address_of_their_own(limited: Gateway) -> None:
    asked = f"http://{{}}:{limited.metrics_port}/metrics"
    with urllib.request.urlopen(asked.format("127.0.0.9"), timeout=60) as reply:
        assert reply.status == 200
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(asked.format("127.0.0.1"), timeout=60)


def test_it_counts_its_tritons_and_the_days_of_its_certificate(gateway: Gateway) -> None:
    triton.eventually(lambda: gateway.metrics().get("gateway_replicas_ready") == 2, 60, "two replicas")
    found = gateway.metrics()
    assert found["gateway_certificate_expires_seconds"] == int(gateway.certificate.expires_s)
    assert found["gateway_dropped_log_lines_total"] == 0


# --- both replicas --------------------------------------------------------------------------------
def inferences(server: TritonServer) -> int:
    with btc.Client(server.grpc_url) as client:
        return client.statistics("sentiment")[0].inferences


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_connection_reaches_both_replicas(gateway: Gateway, tritons: list[TritonServer], protocol: str) -> None:
    before = [inferences(server) for server in tritons]
    if protocol == "grpc":
        with gateway.channel() as channel:
            for _ in range(40):
                gateway.call(channel, "ModelInfer", infer_message("a"))
    else:
        with contextlib.closing(gateway.connection()) as connection:
            for _ in range(40):
                connection.request("POST", INFER, infer_body("a"), {"Authorization": f"Bearer {KEYS['shop']}"})
                assert connection.getresponse().read()
    shares = [inferences(server) - count for server, count in zip(tritons, before, strict=True)]
    assert sum(shares) == 40
    assert min(shares) >= 10


def test_the_certificate_it_made_itself_is_trusted_by_who_has_it(limited: Gateway) -> None:
    assert b"BEGIN CERTIFICATE" in (limited.state / "certificate.pem").read_bytes()
    assert limited.certificate.chain != (limited.state / "certificate.pem").read_bytes()
    assert limited.http("GET", "/v2/health/live", source="127.0.0.8").status == 200
