"""The load test's own gRPC and HTTP against the real Triton."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from bert_triton_client import contract, wire
from loadtest.access import Access
from loadtest.wire import CallError, Connection, Reply, Request, connector
from server import TritonServer
from tests.conftest import REPOSITORY_ROOT
from tests.e2e import client_models, triton
from tests.e2e import test_client_tls as tls

PROTOCOLS = ["grpc", "http"]
TIMEOUT_S = 30.0

certificate, tls_urls = tls.certificate, tls.urls  # fixtures


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = client_models.write(tmp_path_factory.mktemp("wire"))
    return module_server_factory(repository, backends=backends, models=["sentiment", "narrow"])


def url(server: TritonServer, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


@contextlib.contextmanager
def connection(at: str, model: str = "sentiment", access: Access | None = None) -> Iterator[Connection]:
    with contextlib.closing(connector(at, model, "", access or Access())()) as connected:
        yield connected


def request(protocol: str, texts: Sequence[str], model: str = "sentiment") -> Request:
    encoded = wire.encode_texts(model, "", [text.encode() for text in texts])
    if protocol == "http":
        return Request(*wire.http_body(encoded, 30_000_000))
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, datatype, shape, data in encoded.inputs:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(data)
    return Request(message.SerializeToString(), 0)


def labels(protocol: str, reply: Reply) -> list[str]:
    if protocol == "http":
        output = wire.parse_http_body(reply.body, reply.head_size).outputs[contract.LABEL]
        return [label.decode() for label in wire.decode_bytes(output)]
    message = service_pb2.ModelInferResponse.FromString(reply.body)
    assert reply.head_size is None
    index = [output.name for output in message.outputs].index(contract.LABEL)
    tensor = wire.RawTensor("LABEL", "BYTES", tuple(message.outputs[index].shape), message.raw_output_contents[index])
    return [label.decode() for label in wire.decode_bytes(tensor)]


def ask(protocol: str, connected: Connection, texts: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[str]:
    return labels(protocol, connected.call(request(protocol, texts), timeout_s))


def refusal(connected: Connection, asked: Request, timeout_s: float = TIMEOUT_S) -> CallError:
    with pytest.raises(CallError) as caught:
        connected.call(asked, timeout_s)
    return caught.value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_one_after_another(server: TritonServer, protocol: str) -> None:
    with connection(url(server, protocol)) as connected:
        for index in range(200):
            texts = [f"text {index}.{row}" for row in range(1 + index % 8)]
            assert ask(protocol, connected, texts) == texts


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_and_answers_of_many_megabytes(server: TritonServer, protocol: str) -> None:
    texts = [str(row) + "é" * 700_000 for row in range(8)]  # 11 MB each way, more than one window
    with connection(url(server, protocol)) as connected:
        for _ in range(2):
            assert ask(protocol, connected, texts) == texts
            assert ask(protocol, connected, ["small"]) == ["small"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_and_the_call_after_it(server: TritonServer, protocol: str) -> None:
    with connection(url(server, protocol)) as connected:
        assert ask(protocol, connected, ["a"]) == ["a"]
        started = time.monotonic()
        error = refusal(connected, request(protocol, ["sleep 2"]), 0.3)
        assert error.kind == "DeadlineExceededError"
        assert time.monotonic() - started < 2.0  # it did not wait for the answer
        assert ask(protocol, connected, ["b"]) == ["b"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refusals_have_the_clients_names(server: TritonServer, protocol: str) -> None:
    cases = [
        ("sentiment", [" "], "InvalidTextError", "text 0: no tokens"),
        ("sentiment", ["fault"], "ServerFaultError", "something broke"),
        ("sentiment", ["a"] * 65, "BatchTooLargeError", "64"),
        ("no_such_model", ["a"], "ModelNotFoundError", "no_such_model"),
    ]
    for model, texts, kind, message in cases:
        with connection(url(server, protocol), model) as connected:
            error = refusal(connected, request(protocol, texts, model))
            assert (error.kind, message in error.message) == (kind, True), error
            if model == "sentiment":  # on the connection that was refused
                assert ask(protocol, connected, ["a"]) == ["a"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue(server: TritonServer, protocol: str) -> None:
    kinds: list[str] = []

    def work() -> None:
        with connection(url(server, protocol), "narrow") as connected:
            try:
                connected.call(request(protocol, ["sleep 0.5"], "narrow"), TIMEOUT_S)
            except CallError as exc:
                kinds.append(exc.kind)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds
    assert set(kinds) == {"OverloadedError"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_other_protocols_port(server: TritonServer, protocol: str) -> None:
    other = "http" if protocol == "grpc" else "grpc"
    at = url(server, other).replace(f"{other}://", f"{protocol}://")
    with connection(at) as connected:
        for _ in range(2):
            error = refusal(connected, request(protocol, ["a"]))
            assert error.kind == "WrongProtocolError"
            assert f"write {other}://" in error.message


def test_a_server_killed_during_calls_and_started_again(
    server_factory: Callable[..., TritonServer], tmp_path: Path
) -> None:
    repository, backends = client_models.write(tmp_path)
    killed = server_factory(repository, backends=backends, models=["sentiment"])
    with contextlib.ExitStack() as stack:
        connected = {protocol: stack.enter_context(connection(url(killed, protocol))) for protocol in PROTOCOLS}
        errors: dict[str, CallError] = {}
        for protocol in PROTOCOLS:
            assert ask(protocol, connected[protocol], ["a"]) == ["a"]

        def work(protocol: str) -> None:
            text = f"busy {tmp_path / protocol} 120"
            errors[protocol] = refusal(connected[protocol], request(protocol, [text]), 150)

        threads = [threading.Thread(target=work, args=(protocol,)) for protocol in PROTOCOLS]
        for thread in threads:
            thread.start()
        triton.eventually(lambda: any((tmp_path / protocol).exists() for protocol in PROTOCOLS), 60, "a call")
        killed.end_processes()
        for thread in threads:
            thread.join()
        assert {protocol: error.kind for protocol, error in errors.items()} == dict.fromkeys(
            PROTOCOLS, "ServerUnreachableError"
        )
        for protocol in PROTOCOLS:
            assert refusal(connected[protocol], request(protocol, ["a"])).kind == "ServerUnreachableError"
        killed.restart()
        for protocol in PROTOCOLS:
            assert ask(protocol, connected[protocol], ["b"]) == ["b"]


UNDER_GEVENT = """
import gevent.monkey

gevent.monkey.patch_all()
import json, sys, time
import gevent
from loadtest.access import Access
from loadtest.wire import CallError, Request, connector

url, users, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
quick, slow = (Request(bytes.fromhex(body), int(size)) for body, size in json.loads(sys.stdin.readline()))
make = connector(url, "sentiment", "", Access.from_environment())
replies, late = set(), []

def user():
    connection = make()
    for _ in range(rounds):
        replies.add(connection.call(quick, 30).body.hex())
    try:
        connection.call(slow, 0.05)
    except CallError as exc:
        late.append(exc.kind)
    replies.add(connection.call(quick, 30).body.hex())
    connection.close()

def heart():
    while True:
        gevent.sleep(0.02)
        beats.append(time.monotonic())

beats = []
beating = gevent.spawn(heart)
gevent.joinall([gevent.spawn(user) for _ in range(users)], raise_error=True)
print(json.dumps({"replies": sorted(replies), "late": late, "beats": len(beats)}))
"""


def in_greenlets(protocol: str, at: str, users: int, access: Access) -> dict[str, Any]:
    """What `UNDER_GEVENT` found, after a look at its answers."""
    asked = [request(protocol, texts) for texts in (["quick"], ["sleep 0.25"])]
    completed = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, at, str(users), "20"],
        input=json.dumps([(body.hex(), size) for body, size in asked]) + "\n",
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=REPOSITORY_ROOT,
        env=access.to_environment(),
    )
    assert completed.returncode == 0, completed.stderr
    found: dict[str, Any] = json.loads(completed.stdout)
    with connection(at, access=access) as connected:
        assert found["replies"] == [connected.call(asked[0], TIMEOUT_S).body.hex()]
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sixteen_users_in_greenlets(server: TritonServer, protocol: str) -> None:
    """All wait at once; nobody blocks the event loop."""
    found = in_greenlets(protocol, url(server, protocol), 16, Access())
    assert found["late"] == ["DeadlineExceededError"] * 16
    assert found["beats"] >= 40  # of about 200 in the 4 s of sleep; calls that block the loop leave it about 16


@tls.pytestmark
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls(tls_urls: dict[str, str], certificate: tuple[Path, Path], protocol: str) -> None:
    trusted = Access(ca_certificates=str(certificate[0]))
    with connection(tls_urls[protocol], access=trusted) as connected:
        for texts in (["a"], ["x" * 1_000_000] * 4, ["b"]):
            assert ask(protocol, connected, texts) == texts
        time.sleep(0.3)  # long enough to look whether the connection is still there
        assert ask(protocol, connected, ["c"]) == ["c"]
    with connection(tls_urls[protocol]) as connected:
        error = refusal(connected, request(protocol, ["a"]))
        assert (error.kind, "not trusted" in error.message) == ("InvalidConfigError", True)
    with connection(tls_urls[protocol].replace("s://", "://")) as connected:
        assert refusal(connected, request(protocol, ["a"]), TIMEOUT_S).kind != "DeadlineExceededError"


@tls.pytestmark
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_in_greenlets(tls_urls: dict[str, str], certificate: tuple[Path, Path], protocol: str) -> None:
    found = in_greenlets(protocol, tls_urls[protocol], 4, Access(ca_certificates=str(certificate[0])))
    assert found["late"] == ["DeadlineExceededError"] * 4


@tls.pytestmark
def test_tls_with_the_other_protocol(tls_urls: dict[str, str], certificate: tuple[Path, Path]) -> None:
    trusted = Access(ca_certificates=str(certificate[0]))
    with connection(tls_urls["http"].replace("https", "grpcs"), access=trusted) as connected:
        assert refusal(connected, request("grpc", ["a"])).kind == "WrongProtocolError"
