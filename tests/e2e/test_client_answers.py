"""The client against the real Triton: one test body, all four clients, the same answers and the same errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bert_triton_client as btc
from server import TritonServer
from tests.e2e import client_models, triton

CLIENTS = client_models.CLIENTS


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = client_models.write(tmp_path_factory.mktemp("client"))
    return module_server_factory(repository, backends=backends)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[Any]:
    with client_models.connect(server, request.param) as connected:
        yield connected


def labels(answers: list[Any]) -> list[str]:
    return [answer.label if isinstance(answer, btc.Classification) else f"!{answer.index}" for answer in answers]


# --- Text ---


def test_one_text_and_many(client: Any) -> None:
    assert client.classify("I love this movie") == btc.Classification("I love this movie", 0.75, (0.25, 0.75))
    texts = [f"text {i} 🎬 مرحبا" for i in range(150)]
    assert labels(client.classify(texts)) == texts
    assert labels(client.classify(iter(texts))) == texts
    assert client.classify([]) == []
    assert labels(list(client.classify_iter(texts))) == texts


@pytest.mark.parametrize(
    ("kind", "count"), [("sync-grpc", 100_000), *((kind, 20_000) for kind in CLIENTS if kind != "sync-grpc")]
)
def test_a_hundred_thousand_texts_keep_their_order(server: TritonServer, kind: str, count: int) -> None:
    """One client with all of them; the others, with which it shares the order, with a fifth."""
    with client_models.connect(server, kind) as client:
        answers = client.classify((f"text {i}" for i in range(count)), timeout_s=240)
    assert labels(answers) == [f"text {i}" for i in range(count)]


def test_texts_of_many_bytes_are_split_by_bytes(server: TritonServer) -> None:
    texts = ["x" * 300_000 + str(i) for i in range(10)]
    for kind in CLIENTS:
        with client_models.connect(server, kind, max_request_bytes=1_000_000) as client:
            before = {one.name: one.requests for one in client.statistics()}["sentiment"]
            assert labels(client.classify(texts)) == texts
            assert {one.name: one.requests for one in client.statistics()}["sentiment"] - before == 4


def test_a_bad_text_is_named_by_its_place_and_costs_no_other(client: Any) -> None:
    texts: list[Any] = [f"text {i}" for i in range(200)]
    texts[70], texts[71], texts[150], texts[199] = "", None, " \t", "\ud800"
    for _ in range(2):  # the second must fail like the first
        with pytest.raises(btc.InvalidTextError, match=r"^text 70: no tokens in 0 bytes$") as caught:
            client.classify(texts)
        assert caught.value.index == 70
    answers = client.classify(texts, on_error="return")
    wrong = {70: "!70", 71: "!71", 150: "!150", 199: "!199"}
    assert labels(answers) == [wrong.get(i, text) for i, text in enumerate(texts)]
    assert isinstance(client.classify("", on_error="return"), btc.InvalidTextError)


def test_an_endless_iterator_is_read_only_a_little_ahead(server: TritonServer) -> None:
    with btc.Client(server.grpc_url, max_in_flight=2, max_request_texts=10) as client:
        read = 0

        def endless() -> Iterator[str]:
            nonlocal read
            while True:
                read += 1
                yield f"text {read}"

        answers = client.classify_iter(endless())
        assert [next(answers).label for _ in range(500)][-1] == "text 500"
        assert read <= 500 + (2 * 2 + 2) * 10
        answers.close()


# --- Errors ---

ONES = np.ones((2, 3), np.int64)
ONES32 = np.ones((2, 3), np.int32)
IDS = {"input_ids": ONES, "attention_mask": ONES}
TEXTS = np.array([["a"]], dtype=object)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c: c.classify("a", model="nope"), btc.ModelNotFoundError, "nope"),
        (lambda c: c.classify("a", version=7), btc.ModelNotFoundError, "version 7"),
        (lambda c: c.classify("a", version="x"), btc.InvalidRequestError, "whole number"),
        (lambda c: c.infer("nope", IDS), btc.ModelNotFoundError, "nope"),
        (lambda c: c.infer("sentiment_tensors", IDS, version=7), btc.ModelNotFoundError, "version 7"),
        (lambda c: c.statistics("nope"), btc.ModelNotFoundError, "nope"),
        (lambda c: c.model_info("nope"), btc.ModelNotFoundError, "nope"),
        (lambda c: c.classify("a", model="sentiment_tensors"), btc.InvalidRequestError, r"infer\(\)"),
        (lambda c: c.classify("fault"), btc.ServerFaultError, "something broke"),
        (lambda c: c.classify("sleep 0.8", timeout_s=0.2), btc.DeadlineExceededError, r"within 0\.2 s"),
        (lambda c: c.classify(["sleep 0.005"] * 200, timeout_s=0.2), btc.DeadlineExceededError, r"within 0\.2 s"),
        (lambda c: c.infer("sentiment", {"TEXT": np.ones((1, 1))}), btc.InvalidTensorError, "FP64"),
        (lambda c: c.infer("sentiment", {"TXT": TEXTS}), btc.InvalidTensorError, "TXT"),
        (lambda c: c.infer("sentiment", {"TEXT": TEXTS, "X": TEXTS}), btc.InvalidTensorError, "got 2 inputs"),
        (lambda c: c.infer("sentiment", {"TEXT": TEXTS[0]}), btc.InvalidTensorError, "unexpected shape"),
        (lambda c: c.infer("sentiment", {}), btc.BertTritonError, "input"),
        (lambda c: c.infer("sentiment", {"TEXT": TEXTS}, outputs=["X"]), btc.InvalidTensorError, "output 'X'"),
        (lambda c: c.infer("sentiment_tensors", {"input_ids": ONES}), btc.InvalidTensorError, "attention_mask"),
        (
            lambda c: c.infer("sentiment_tensors", IDS | {"input_ids": ONES.astype("i4")}),
            btc.InvalidTensorError,
            "INT32",
        ),
        (
            lambda c: c.infer("sentiment_tensors", dict.fromkeys(IDS, np.ones((9, 3), np.int64))),
            btc.BatchTooLargeError,
            "<= 8",
        ),
        (lambda c: c.infer("sentiment_tensors", {"input_ids": [1]}), btc.InvalidTensorError, "list"),
    ],
)
def test_errors_are_typed_and_the_same_twice(
    client: Any, call: Callable[[Any], Any], error: type[btc.BertTritonError], says: str
) -> None:
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(error, match=says) as caught:
            call(client)
        assert type(caught.value) is error or error is btc.BertTritonError
        assert time.monotonic() - started < 15  # at once, and not after the 30 s that a request may take
    assert client.classify("after") == btc.Classification("after", 0.75, (0.25, 0.75))


def test_the_same_fault_has_the_same_class_over_both_protocols(server: TritonServer) -> None:
    """Faults whose class the table above leaves open."""
    for call in (lambda c: c.infer("sentiment", {}), lambda c: c.infer("sentiment", {"TEXT": TEXTS[:0]})):
        classes = set()
        for kind in CLIENTS:
            with client_models.connect(server, kind) as client, pytest.raises(btc.BertTritonError) as caught:
                call(client)
            classes.add(type(caught.value))
        assert len(classes) == 1, classes


def test_a_full_queue_is_overload_and_many_texts_get_through_it(server: TritonServer) -> None:
    for kind in CLIENTS:
        texts = ["sleep 0.05"] * 8
        with client_models.connect(server, kind, model="narrow", backoff_max_s=0.2) as client:
            assert labels(client.classify(texts)) == texts
    with btc.Client(server.grpc_url, max_retries=0) as grpc, btc.Client(server.http_url, max_retries=0) as http:

        def outcome(client: btc.Client) -> str:
            try:
                return client.classify("sleep 0.3", model="narrow").label
            except btc.BertTritonError as error:
                return type(error).__name__

        with ThreadPoolExecutor(16) as threads:
            found = list(threads.map(outcome, [grpc, http] * 8))
    assert set(found) == {"sleep 0.3", "OverloadedError"}
    assert "OverloadedError" in set(found[::2]) & set(found[1::2])


# --- Tensors, the server ---


def test_tensor_models_are_called_directly(client: Any) -> None:
    answer = client.infer("sentiment_tensors", IDS)
    np.testing.assert_array_equal(answer["logits"], np.full((2, 2), 3, np.float32))
    answer = client.infer("sentiment", {"TEXT": TEXTS}, outputs=["SCORE"], version="1")
    assert list(answer) == ["SCORE"]
    assert answer["SCORE"].dtype == np.float32


def test_what_the_server_says_about_itself(client: Any) -> None:
    assert (client.is_live(), client.is_ready()) == (True, True)
    assert (client.is_model_ready(), client.is_model_ready("nope"), client.is_model_ready(version=7)) == (
        True,
        False,
        False,
    )
    assert btc.ModelStatus("sentiment", "1", "READY") in client.models()
    info = client.model_info()
    assert (info.max_batch_size, info.task, info.inputs) == (
        64,
        "text-classification",
        (btc.TensorInfo("TEXT", "BYTES", (1,)),),
    )
    assert client.health().ok
    assert client.health("nope").reason.startswith("Request for unknown model")
    client.wait_until_ready(60)
    client.wait_until_ready(60, model="sentiment_tensors")
    with pytest.raises(btc.NotReadyError, match=r"model 'nope' at .* is not ready after 0\.3 s: .*unknown model"):
        client.wait_until_ready(0.3, model="nope")
    (statistics,) = client.statistics("sentiment")
    assert statistics.requests > 0
    assert statistics.mean_batch_size >= 1


def test_answers_do_not_depend_on_the_protocol(server: TritonServer) -> None:
    def everything(client: Any) -> Any:
        statuses, info = client.models(), client.model_info("sentiment_tensors")
        return statuses, info, [client.classify("a"), *client.classify(["b", "c"])]

    found = []
    for kind in CLIENTS:
        with client_models.connect(server, kind) as client:
            found.append(everything(client))
    assert all(one == found[0] for one in found)


# --- Threads, closing, wrong ports ---


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_sixteen_threads_share_one_client(server: TritonServer, protocol: str) -> None:
    with btc.Client(client_models.url(server, protocol)) as client, ThreadPoolExecutor(16) as threads:

        def work(thread: int) -> bool:
            texts = [f"thread {thread} text {i}" for i in range(130)]
            one = all(client.classify(text).label == text for text in texts[:40])
            return one and labels(client.classify(texts)) == texts

        assert all(threads.map(work, range(16)))


def test_a_closed_client_says_so(server: TritonServer) -> None:
    for kind in CLIENTS:
        with client_models.connect(server, kind) as client:
            client.classify("a")
            client.close()
            client.close()
            for call in (
                lambda c: c.classify("a"),
                lambda c: c.classify(["a"] * 100),
                lambda c: c.infer("m", {}),
                lambda c: c.health(),
                lambda c: c.wait_until_ready(5),
            ):
                with pytest.raises(btc.ClientClosedError):
                    call(client)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_closing_ends_calls_under_way(server: TritonServer, protocol: str, tmp_path: Path) -> None:
    client = btc.Client(client_models.url(server, protocol), max_request_texts=4)
    with ThreadPoolExecutor(2) as threads:
        many = threads.submit(client.classify, [f"busy {tmp_path / 'many'} 0.05", *["sleep 0.05"] * 2000])
        triton.eventually((tmp_path / "many").exists, 60, "the first of many calls")
        one = threads.submit(client.classify, f"busy {tmp_path / 'one'} 120")
        triton.eventually((tmp_path / "one").exists, 60, "the one call")
        client.close()
        for call in (one, many):
            with pytest.raises(btc.ClientClosedError):
                call.result(timeout=60)
    (tmp_path / "one").unlink()  # the model is free again


def test_the_wrong_port_is_named(server: TritonServer) -> None:
    grpc_port, http_port = (url.rpartition(":")[2] for url in (server.grpc_url, server.http_url))
    crossed = {"grpc": f"grpc://127.0.0.1:{http_port}", "http": f"http://127.0.0.1:{grpc_port}"}
    for kind in CLIENTS:
        protocol = kind.rpartition("-")[2]
        flavour = btc.Client if kind.startswith("sync") else client_models.Blocking
        other = "http" if protocol == "grpc" else "grpc"
        client = flavour(crossed[protocol])
        try:
            with pytest.raises(btc.WrongProtocolError, match=f"write {other}://127.0.0.1"):
                client.classify("a", timeout_s=30)
        finally:
            client.close() if kind.startswith("sync") else client.finish()  # type: ignore[union-attr]


def test_nobody_there(server: TritonServer) -> None:
    for url in ("grpc://127.0.0.1:9", "http://127.0.0.1:9"):
        with btc.Client(url, max_retries=1) as client:
            with pytest.raises(btc.ServerUnreachableError, match=r"127\.0\.0\.1:9"):
                client.classify("a", timeout_s=30)
            assert not client.health().ok


GEVENT = """
import sys
from gevent import monkey
monkey.patch_all()
import grpc.experimental.gevent
grpc.experimental.gevent.init_gevent()
import gevent
import gevent.pool
from bert_triton_client import Client

for url in sys.argv[1:]:
    with Client(url) as client:
        ticks = []
        gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.01)) for _ in range(100)])
        answers = gevent.pool.Pool(16).map(lambda i: client.classify(f"text {i}").label, range(200))
        assert answers == [f"text {i}" for i in range(200)]
        assert [a.label for a in client.classify(f"text {i}" for i in range(500))] == [f"text {i}" for i in range(500)]
        client.classify("sleep 0.3")
        assert len(ticks) > 10, "a call blocked the other greenlets"
print("done")
"""


def test_greenlets_share_a_client(server: TritonServer) -> None:
    """Load generators run on gevent."""
    command = [sys.executable, "-c", GEVENT, server.grpc_url, server.http_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout == "done\n", done.stderr


# --- A server that stands still ---


def stands_still(pid: int) -> bool:
    """Whether every thread has stopped: a busy machine takes its time over that, and the others go on answering."""
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def test_a_server_that_stands_still_costs_no_more_than_the_deadline(server: TritonServer) -> None:
    for kind in CLIENTS:
        with client_models.connect(server, kind) as client:
            client.classify("a")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                triton.eventually(lambda: stands_still(server.pid), 60, "the standstill")
                for texts in ("a", ["a"] * 1000):
                    started = time.monotonic()
                    with pytest.raises(btc.DeadlineExceededError):
                        client.classify(texts, timeout_s=0.5)
                    assert time.monotonic() - started < 15  # and not the 30 s that a request may take
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert client.classify("a", timeout_s=60).label == "a"


# --- A restricted API ---


def test_a_restricted_api_is_denied_at_once_and_opens_with_its_key(
    server_factory: Callable[..., TritonServer], tmp_path: Path
) -> None:
    repository, backends = client_models.write(tmp_path)
    restricted = ("--http-restricted-api=statistics:pass=word", "--grpc-restricted-protocol=statistics:pass=word")
    server = server_factory(repository, backends=backends, models=["sentiment"], extra_args=restricted)
    headers = {"http": {"pass": "word"}, "grpc": {"triton-grpc-protocol-pass": "word"}}
    for kind in CLIENTS:
        with client_models.connect(server, kind) as client:
            started = time.monotonic()
            with pytest.raises(btc.AccessDeniedError):
                client.statistics()
            assert time.monotonic() - started < 15  # and not the 30 s that a request may take
        with client_models.connect(server, kind, headers=headers[kind.rpartition("-")[2]]) as client:
            assert [one.name for one in client.statistics()] == ["sentiment"]
