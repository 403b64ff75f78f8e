"""``python -m server`` as it is by default: what is closed, what opens it, and what a request's trace says."""

from __future__ import annotations

import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

import bert_triton_client as btc
from export.repository import ModelRepository
from tests.collector import Collector
from tests.e2e import triton
from tests.e2e.backend_models import bag_graph, write_tokenizer
from tests.e2e.server_command import FREE_PORTS, READY_TIMEOUT_S, Command
from tests.tiny_repository import publish

KEY = "a-key-that-only-this-test-knows"
HEADER = "triton-grpc-protocol-admin-key"
CLOSED = ("v2/trace/setting", "v2/logging", "v2/systemsharedmemory/status", "v2/cudasharedmemory/status")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = ModelRepository(tmp_path_factory.mktemp("security") / "model_repository")
    publish(
        repository,
        precisions=("fp32",),
        fill=lambda folder: bag_graph(folder / "model.onnx", 1),
        fill_text=lambda folder: write_tokenizer(folder / "tokenizer.json"),
    )
    return repository.path


@pytest.fixture(scope="module")
def command(repository: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("command")
    (folder / "key").write_text(KEY + "\n")
    flags = (f"--admin-key-file={folder / 'key'}", f"--trace-endpoint={collector.url}", *FREE_PORTS)
    command = Command(folder, f"--model-repository={repository}", *flags, OTEL_BSP_SCHEDULE_DELAY="50")
    try:
        command.wait_until_ready()
        yield command
    finally:
        command.process.kill()
        command.process.wait()


@pytest.fixture(scope="module")
def http(command: Command) -> str:
    return command.wait_until_ready()


@pytest.fixture(scope="module")
def grpc(command: Command) -> Iterator[triton_grpc.InferenceServerClient]:
    found = re.search(r"grpc://([\d.:]+)", command.ready_lines()[0])
    assert found
    client = triton_grpc.InferenceServerClient(found[1])
    yield client
    client.close()


def ask(http: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and answer."""
    request = urllib.request.Request(f"{http}/{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


def test_what_changes_the_server_is_closed_and_opens_with_the_key(
    http: str, grpc: triton_grpc.InferenceServerClient
) -> None:
    with_key = {HEADER: KEY}
    for path in CLOSED:
        status, answer = ask(http, path)
        assert (status, answer["error"]) == (403, f"This API is restricted, expecting header '{HEADER}'")
        assert ask(http, path, **{HEADER: KEY[:-1]})[0] == 403
    assert ask(http, "v2/logging", **with_key)[0] == 200
    assert ask(http, "v2/repository/index", b"{}")[0] == 403
    assert {row["name"] for row in ask(http, "v2/repository/index", b"{}", **with_key)[1]} == {
        "sentiment",
        "sentiment_fp32",
    }
    questions: tuple[Callable[..., object], ...] = (
        grpc.get_model_repository_index,
        grpc.get_trace_settings,
        grpc.get_log_settings,
        grpc.get_system_shared_memory_status,
    )
    for question in questions:
        with pytest.raises(triton_grpc.InferenceServerException, match="This protocol is restricted"):
            question()
        question(headers=with_key)


def test_what_clients_need_is_open(http: str) -> None:
    with btc.Client(http) as client:
        assert client.classify("w1 w2").label in {"negative", "positive"}
        assert client.health().ok
        assert client.model_info("sentiment").max_batch_size > 0
        assert client.statistics("sentiment")
        with pytest.raises(btc.AccessDeniedError, match=HEADER):
            client.models()
    with btc.Client(http, headers={HEADER: KEY}) as client:
        assert {status.name for status in client.models()} == {"sentiment", "sentiment_fp32"}


def test_no_key_loads_a_model_where_nobody_asked_for_that(http: str) -> None:
    for action in ("load", "unload"):
        assert ask(http, f"v2/repository/models/sentiment/{action}", b"{}")[0] == 403
        status, answer = ask(http, f"v2/repository/models/sentiment/{action}", b"{}", **{HEADER: KEY})
        assert status >= 400
        assert "explicit model load / unload is not allowed" in answer["error"]


def test_the_key_is_in_no_command_line_and_no_log(command: Command, tmp_path: Path) -> None:
    visible = any("can be read in this machine's list of processes" in line for line in command.ours())
    arguments = Path(f"/proc/{command.triton_pid()}/cmdline").read_bytes()
    assert b"--http-restricted-api=" in arguments
    assert (KEY.encode() in arguments) == visible
    assert KEY.encode() not in Path(f"/proc/{command.process.pid}/cmdline").read_bytes()
    assert KEY not in command.log()
    assert not visible, "this sandbox lets no process write into its child's memory"


def test_what_was_verified_is_said(command: Command) -> None:
    assert re.fullmatch(
        r"server: 2 versions \(\d+\.\d MB\) hold what their manifests say; checked in \d+\.\d\d s", command.ours()[0]
    )


def test_a_file_that_was_changed_is_refused_before_triton_starts(repository: Path, tmp_path: Path) -> None:
    for name in ("sentiment/1/tokenizer.json", "sentiment_fp32/1/model.onnx"):
        path = repository / name
        sound = path.read_bytes()
        path.write_bytes(sound + b" ")
        try:
            command = Command(tmp_path, f"--model-repository={repository}", *FREE_PORTS)
            assert command.process.wait(READY_TIMEOUT_S) == 1
        finally:
            path.write_bytes(sound)
        (line,) = command.ours()
        assert re.match(
            rf"server: error: .*/{name} was changed since it was exported: its SHA-256 is \w+, expected", line
        )


# --- Traces ---


def spans_of(collector: Collector, trace: str, names: set[str]) -> dict[str, dict[str, Any]]:
    """The spans of a trace, by name, once they have all come."""
    triton.eventually(
        lambda: names <= {span["name"] for span in collector.spans() if span["traceId"] == trace}, 30.0, f"{names}"
    )
    return {span["name"]: span for span in collector.spans() if span["traceId"] == trace}


def attributes(span: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: str(next(iter(entry["value"].values()))) for entry in span["attributes"]}


CALLER = "b7ad6b7169203331"
OF_TRITON, OURS = {"InferRequest", "sentiment", "compute"}, {"queue", "sentiment_fp32"}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_callers_trace_goes_on_to_the_tensor_model(
    http: str, grpc: triton_grpc.InferenceServerClient, collector: Collector, protocol: str
) -> None:
    before = {span["traceId"] for span in collector.spans()}
    texts = {secrets.token_hex(16): f"w1 w2 of {protocol} {number}" for number in range(100)}
    for trace, text in texts.items():
        infer(protocol, http, grpc, text + " w9", None)  # is not traced
        infer(protocol, http, grpc, text, f"00-{trace}-{CALLER}-01")
    lost = {trace for trace in texts if spans_of(collector, trace, OURS)["queue"]["parentSpanId"] == CALLER}
    assert lost < set(texts) if protocol == "grpc" else not lost, "Triton loses some over gRPC (server/tracing.py)"
    for trace in texts:
        names = OURS if trace in lost else OF_TRITON | OURS
        found = spans_of(collector, trace, names)
        assert set(found) == names
        check_trace(found)

    # The same text from the cache: no call.
    cached = {secrets.token_hex(16) for _ in range(20)}
    for trace in cached:
        infer(protocol, http, grpc, next(iter(texts.values())), f"00-{trace}-{CALLER}-01")
    triton.eventually(lambda: bool(cached & {span["traceId"] for span in collector.spans()}), 30.0, "a trace")
    time.sleep(0.5)  # what else would come
    assert {span["name"] for span in collector.spans() if span["traceId"] in cached} == OF_TRITON
    assert {span["traceId"] for span in collector.spans()} <= before | set(texts) | cached


def check_trace(found: dict[str, dict[str, Any]]) -> None:
    """Each span lies in the right one, and tells of its model."""
    outer = found["sentiment"]["spanId"] if "sentiment" in found else CALLER
    assert {found[name]["parentSpanId"] for name in OURS} == {outer}
    called = attributes(found["sentiment_fp32"])
    assert (called["triton.model_name"], called["triton.model_version"]) == ("sentiment_fp32", "1")
    times = [int(found["queue"]["startTimeUnixNano"]), int(found["queue"]["endTimeUnixNano"])]
    times += [int(found["sentiment_fp32"]["endTimeUnixNano"])]
    if "sentiment" in found:
        assert found["InferRequest"]["parentSpanId"] == CALLER
        assert found["sentiment"]["parentSpanId"] == found["InferRequest"]["spanId"]
        assert attributes(found["sentiment"])["triton.model_version"] == "1"
        times += [int(found["InferRequest"]["endTimeUnixNano"])]
    assert times == sorted(times), "waited, computed, answered"


def infer(
    protocol: str, http: str, grpc: triton_grpc.InferenceServerClient, text: str, traceparent: str | None
) -> None:
    headers = {"traceparent": traceparent} if traceparent else {}
    if protocol == "http":
        tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
        status, answer = ask(http, "v2/models/sentiment/infer", json.dumps({"inputs": [tensor]}).encode(), **headers)
        assert status == 200, answer
    else:
        tensor = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        grpc.infer("sentiment", [tensor], headers=headers)
