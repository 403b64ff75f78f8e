"""What the gateway does when something changes under load: keys, certificate, Tritons, its own processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest

import bert_triton_client as btc
from deploy.gateway.replicas import Replica, Replicas
from deploy.gateway.settings import Triton
from server import TritonServer
from tests.e2e import client_models, gateways, triton
from tests.e2e.gateways import KEYS, PATIENCE_S, Gateway, Load, infer_body, infer_message

pytestmark = gateways.needed

EXIT_TIMEOUT_S = 60  # longer than any test: a Triton that has ended in time was let go


@pytest.fixture(scope="module")
def tritons(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> list[TritonServer]:
    """Two that serve the same model; both are there again after every test."""
    repository, backends = client_models.write(tmp_path_factory.mktemp("gateway_models"))
    options = {"backends": backends, "models": ["sentiment"], "exit_timeout_s": EXIT_TIMEOUT_S}
    return [module_server_factory(repository, **options) for _ in range(2)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    yield from gateways.factory(tmp_path)


@pytest.fixture
def gateway(tritons: list[TritonServer], start: Callable[..., Gateway]) -> Gateway:
    return start(tritons)


# --- keys and certificate -------------------------------------------------------------------------
def test_keys_change_under_load_without_a_lost_request(gateway: Gateway) -> None:
    old, new = KEYS["shop"], "new-" + "n" * 32
    with Load(gateway) as load:
        load.await_answers(50)
        gateway.write_keys({"shop": old, "shop-new": new})
        assert gateway.await_event("reloaded")["api_keys"] == ["shop", "shop-new"]
        load.await_answers(50)
        load.key = new
        load.await_answers(50)
        gateway.write_keys({"shop-new": new})
        gateway.await_event("reloaded", 2)
        load.await_answers(50)
    assert load.failures == []
    assert gateway.http("GET", "/v2", key=old).status == 401
    assert gateway.http("GET", "/v2", key=new).status == 200


BAD_KEYS = ("", "shop", "shop short", "shop " + "k" * 40 + "\nshop " + "l" * 40, "shöp " + "k" * 40)


def test_bad_keys_change_nothing_and_are_said_once(gateway: Gateway) -> None:
    for count, bad in enumerate(BAD_KEYS, 1):
        gateway.write_keys_file(bad)
        refused = gateway.await_event("refused", count)
        assert (refused["what"], refused["level"]) == ("API keys", "error")
        assert "the old goes on" in refused["message"]
        assert gateway.http("GET", "/v2").status == 200
    gateway.keys_file.unlink()
    assert "No such file" in gateway.await_event("refused", len(BAD_KEYS) + 1)["message"]
    assert gateway.http("GET", "/v2").status == 200
    gateway.write_keys({"other": KEYS["blog"]})
    gateway.await_event("reloaded")
    assert gateway.http("GET", "/v2", key=KEYS["shop"]).status == 401
    assert gateway.http("GET", "/v2", key=KEYS["blog"]).status == 200
    assert len(gateway.events("refused")) == len(BAD_KEYS) + 1
    failed = 'gateway_reloads_total{outcome="failed"}'
    triton.eventually(lambda: gateway.metrics().get(failed) == len(BAD_KEYS) + 1, PATIENCE_S, "the count")


def served_certificate(gateway: Gateway) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", gateway.port)).encode()


def test_another_certificate_is_taken_over(gateway: Gateway) -> None:
    before = served_certificate(gateway)
    with Load(gateway) as load:
        load.await_answers(20)
        gateway.change_certificate()
        gateway.await_event("reloaded")
        assert before != served_certificate(gateway) == gateway.certificate.chain
        # Clients that know the old one only are refused from now on: the load is not one of them.
    assert load.answers["http"] > 20
    with gateway.client("grpc") as client:
        assert client.classify("a").label == "a"


def test_a_certificate_without_its_key_changes_nothing(gateway: Gateway) -> None:
    before = served_certificate(gateway)
    (gateway.folder / "key.pem").write_bytes(b"no key")
    refused = gateway.await_event("refused")
    assert (refused["what"], refused["level"]) == ("certificate", "error")
    gateway.write_keys({"other": KEYS["blog"]})
    gateway.await_event("reloaded")
    assert served_certificate(gateway) == before


# --- Tritons --------------------------------------------------------------------------------------
def served(gateway: Gateway, count: int) -> list[str]:
    """The replicas of the newest configuration, once there are so many."""
    triton.eventually(lambda: len(replicas(gateway)) == count, PATIENCE_S, f"{count} replicas")
    return replicas(gateway)


def replicas(gateway: Gateway) -> list[str]:
    changes = [
        event["tritons"] for event in gateway.events("started") + gateway.events("reloaded") if "tritons" in event
    ]
    return list(changes[-1])


def address(server: TritonServer) -> str:
    return f"127.0.0.1:{server.endpoints.grpc_port}"


def inferences(server: TritonServer) -> int:
    with btc.Client(server.grpc_url) as client:
        return client.statistics("sentiment")[0].inferences


def assert_back(gateway: Gateway, load: Load, server: TritonServer) -> None:
    """Starts a Triton again, on the same ports, and sees it get its share."""
    server.restart()
    served(gateway, 2)
    load.await_answers(50)
    assert inferences(server) > 0


def test_a_replica_that_is_stopped_under_load_costs_no_request(gateway: Gateway, tritons: list[TritonServer]) -> None:
    with Load(gateway) as load:
        load.await_answers(50)
        tritons[0].terminate()
        assert served(gateway, 1) == [address(tritons[1])]
        assert tritons[0].wait(EXIT_TIMEOUT_S / 2), "it was not let go"
        load.await_answers(50)
        assert_back(gateway, load, tritons[0])
    assert load.failures == []


def test_a_replica_that_is_killed_under_load_costs_no_request(gateway: Gateway, tritons: list[TritonServer]) -> None:
    with Load(gateway) as load:
        load.await_answers(50)
        os.kill(tritons[1].pid, signal.SIGKILL)
        assert served(gateway, 1) == [address(tritons[0])]
        load.await_answers(50)
        assert_back(gateway, load, tritons[1])
    assert load.failures == []
    assert any(", " in line["tries"] for line in gateway.requests()), "no request had to be tried twice"


def test_a_dead_backend_process_costs_no_request(gateway: Gateway, tritons: list[TritonServer]) -> None:
    with Load(gateway) as load:
        load.await_answers(50)
        for pid in triton.backend_processes(tritons[0].pid):
            os.kill(pid, signal.SIGKILL)
        load.await_answers(50)
        tritons[0].restart()
        load.await_answers(50)
    assert load.failures == []


def test_a_replica_that_hangs_costs_a_try_and_no_request(
    start: Callable[..., Gateway], tritons: list[TritonServer]
) -> None:
    gateway = start(tritons, TRY_TIMEOUT_S=1)
    with Load(gateway) as load:
        load.await_answers(50)
        with stopped(tritons[0]):
            # Three probes of two seconds: one that is late may only be busy.
            assert served(gateway, 1) == [address(tritons[1])]
        served(gateway, 2)
        load.await_answers(50)
    assert load.failures == []
    tried_twice = [line for line in gateway.requests() if ", " in line["tries"]]
    assert {line["protocol"] for line in tried_twice} == {"http", "grpc"}
    assert all(1 <= line["duration_s"] < 2 for line in tried_twice)


def test_a_triton_that_hangs_is_a_clear_answer(start: Callable[..., Gateway], tritons: list[TritonServer]) -> None:
    gateway = start(tritons[:1], TRY_TIMEOUT_S=1)
    with stopped(tritons[0]), gateway.channel() as channel:
        reply = gateway.http("POST", "/v2/models/sentiment/infer", infer_body("a"))
        assert (reply.status, reply.error) == (504, "no Triton answered within 1 s")
        with pytest.raises(grpc.RpcError, match="no Triton answered within 1 s") as error:
            gateway.call(channel, "ModelInfer", infer_message("a"))
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@contextlib.contextmanager
def stopped(server: TritonServer) -> Iterator[None]:
    """A Triton whose connections are open and say nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_no_triton_is_a_clear_answer_until_one_is_there(
    start: Callable[..., Gateway], tritons: list[TritonServer]
) -> None:
    gateway = start(tritons[:1])
    os.kill(tritons[0].pid, signal.SIGKILL)
    try:
        assert tritons[0].wait(PATIENCE_S)
        assert gateway.http("GET", "/v2/health/ready").status == 502
        for protocol in ("http", "grpc"):
            with (
                gateway.client(protocol, max_retries=0) as client,
                pytest.raises(btc.ServerUnreachableError, match="no Triton could be reached"),
            ):
                client.classify("a")
    finally:
        tritons[0].restart()
    for protocol in ("http", "grpc"):
        with gateway.client(protocol) as client:
            assert client.classify("a").label == "a"


def test_a_name_that_means_another_address_is_followed(tritons: list[TritonServer]) -> None:
    first, second = (Replica("127.0.0.1", t.endpoints.http_port, t.endpoints.grpc_port) for t in tritons)
    nobody = Replica("127.0.0.1", triton.free_port(), triton.free_port())
    meaning: set[Replica] = {first}
    watched = Replicas([Triton("triton")], lambda _: meaning)
    try:
        for meaning, serving in (
            ({first}, (first,)),
            ({first, second}, tuple(sorted((first, second)))),
            ({second, nobody}, (second,)),
            (set(), (second,)),  # the resolver is ill, or the container is being replaced
            ({nobody}, (nobody,)),  # nothing better is known
            ({first}, (first,)),
        ):
            watched.look()
            assert watched.serving == serving, meaning
    finally:
        watched.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_end_of_watching_is_seen(tritons: list[TritonServer]) -> None:
    first = Replica("127.0.0.1", tritons[0].endpoints.http_port, tritons[0].endpoints.grpc_port)
    meanings = iter([{first}])
    watched = Replicas([Triton("triton")], lambda _: next(meanings))
    try:
        watched.start()
        assert watched.serving == (first,)
        triton.eventually(lambda: not watched.watching, PATIENCE_S, "the end of the thread")
    finally:
        watched.stop()


# --- the gateway itself ---------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_finishes_what_is_under_way_and_takes_nothing_new(gateway: Gateway, tmp_path: Path, protocol: str) -> None:
    marker = tmp_path / "busy"
    with ThreadPoolExecutor(1) as pool, gateway.client(protocol, max_retries=0) as client:
        busy = pool.submit(client.classify, f"busy {marker} 60", timeout_s=60)
        triton.eventually(marker.exists, PATIENCE_S, "the request's arrival")
        gateway.terminate()
        gateway.await_event("draining")
        triton.eventually(lambda: refused(gateway), PATIENCE_S, "the closed port")
        assert gateway.process.poll() is None
        marker.unlink()
        assert busy.result().score == 0.75
    assert gateway.wait() == 0
    assert gateway.events("stopped")[0]["everything_finished"] is True


def refused(gateway: Gateway) -> bool:
    try:
        gateway.http("GET", "/v2")
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def test_a_drain_has_an_end(tritons: list[TritonServer], start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start(tritons, DRAIN_TIMEOUT_S=1)
    marker = tmp_path / "busy"
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(gateway.http, "POST", "/v2/models/sentiment/infer", infer_body(f"busy {marker} 60"))
        triton.eventually(marker.exists, PATIENCE_S, "the request's arrival")
        gateway.terminate()
        assert gateway.wait() == 0
        marker.unlink()
        with pytest.raises(OSError):  # closed or reset
            busy.result()
    assert gateway.events("stopped")[0]["everything_finished"] is False


def children(gateway: Gateway, name: str) -> list[psutil.Process]:
    return [p for p in psutil.Process(gateway.process.pid).children(recursive=True) if p.name() == name]


def test_it_ends_when_nginx_dies_and_leaves_no_process(gateway: Gateway) -> None:
    every = psutil.Process(gateway.process.pid).children(recursive=True)
    masters = [p for p in children(gateway, "nginx") if p.ppid() == gateway.process.pid]
    assert len(masters) == 1
    masters[0].kill()
    assert gateway.wait() == 1
    assert gateway.events("nginx ended")
    assert [p for p in every if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_mtail_is_started_again_and_requests_go_on(gateway: Gateway) -> None:
    for process in children(gateway, "mtail"):
        process.kill()
        # What is sent to it while it dies is lost.
        triton.eventually(functools.partial(dead, process.pid), PATIENCE_S, "its end")
    assert gateway.http("POST", "/v2/models/sentiment/infer", infer_body("a")).status == 200
    gateway.await_event("mtail ended")
    wanted = 'gateway_requests_total{code="200",model="sentiment",protocol="http"}'
    triton.eventually(lambda: counted(gateway, wanted), PATIENCE_S, "the count")
    failures = 'gateway_requests_total{code="502",model="sentiment",protocol="http"}'
    triton.eventually(lambda: gateway.metrics().get(failures) == 0, PATIENCE_S, "the failures' series")


def dead(pid: int) -> bool:
    return not triton.alive(pid)


def counted(gateway: Gateway, series: str) -> bool:
    try:
        return gateway.metrics().get(series) == 1
    except OSError:
        return False
