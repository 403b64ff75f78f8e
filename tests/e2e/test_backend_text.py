"""bert_text in the real Triton, in front of tiny models whose answers the test computes itself."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from backends.bert_text.metrics import BUCKETS
from backends.bert_text.text_request import OUTCOMES
from server import TritonServer
from tests.e2e import backend_models
from tests.e2e.backend_models import LABELS, VOCABULARY, WORDS, probabilities, write_tensor_model, write_text_model
from tests.e2e.triton import eventually, load
from tests.e2e.wire import Refusal, Wire

# Holds requests back, so that what is sent at the same time is one batch.
WAITING = "dynamic_batching { max_queue_delay_microseconds: 300000 }"
QUEUE_OF_ONE = """dynamic_batching { default_queue_policy {
    timeout_action: REJECT default_timeout_microseconds: 20000000 allow_timeout_override: true max_queue_size: 1 } }"""


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository = tmp_path_factory.mktemp("text_models")
    write_tensor_model(repository, "bag", versions=(1, 2))
    write_tensor_model(repository, "slow", backend="slow", batching=QUEUE_OF_ONE)
    write_text_model(repository, "text", "bag")
    write_text_model(repository, "versions", "bag", versions=(1, 2))
    write_text_model(repository, "waiting", "bag", batching=WAITING)
    write_text_model(repository, "cut", "bag", over_long_text="truncate", max_length="8")
    write_text_model(repository, "uncached", "bag", cache_size="0")
    write_text_model(repository, "small_cache", "bag", cache_size="2")
    write_text_model(repository, "two", "bag", instances=2)
    write_text_model(repository, "patient", "slow", max_tokens="16", instances=2)
    write_text_model(repository, "bounded", "slow", max_tokens="16", max_queue_size="1", calls_in_flight="1")
    write_text_model(repository, "impatient", "slow", max_tokens="16", queue_timeout_ms="100", calls_in_flight="1")
    backends = backend_models.write_backends(tmp_path_factory.mktemp("backends"))
    return module_server_factory(repository, backends=backends)


@pytest.fixture(scope="module", params=["http", "grpc"])
def wire(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[Wire]:
    wire = Wire(request.param, server)
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[Wire]:
    wire = Wire("grpc", server)
    yield wire
    wire.close()


def assert_answers(wire: Wire, texts: Sequence[str], model: str = "text", **how: int) -> None:
    answer = wire.ask(texts, model)
    expected = np.stack([probabilities(text, **how) for text in texts])
    assert answer.probabilities == pytest.approx(expected, abs=1e-6)
    assert answer.scores == pytest.approx(expected.max(axis=1), abs=1e-6)
    assert answer.labels == [LABELS[index] for index in expected.argmax(axis=1)]


def metrics(server: TritonServer, model: str, version: int = 1) -> Callable[[str], float]:
    """The custom metrics of a model as they are once everything counted so far has arrived."""
    time.sleep(0.5)
    with urllib.request.urlopen(server.metrics_url) as response:
        lines = response.read().decode().splitlines()

    def value(name: str, **more: str) -> float:
        labels = {"model": model, "version": str(version), **more}
        found = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(f"bert_text_{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items())
        ]
        assert len(found) == 1, f"{name} {labels}: {found}"
        return found[0]

    return value


def executions(grpc: Wire, model: str) -> tuple[int, int]:
    """Texts and batches that went through a model."""
    stats = grpc.client.get_inference_statistics(model, as_json=True)["model_stats"][0]
    return int(stats.get("inference_count", 0)), int(stats.get("execution_count", 0))


def together(server: TritonServer, *requests: Callable[[Wire], Any]) -> list[Any]:
    """Runs all at the same moment, each on a connection of its own; exceptions are results."""

    def run(request: Callable[[Wire], Any]) -> Any:
        wire = Wire("grpc", server)
        try:
            return request(wire)
        except Refusal as exc:
            return exc
        finally:
            wire.close()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(run, requests))


def test_answers_in_order(wire: Wire) -> None:
    assert_answers(wire, ["good film", "bad", "w1 w2 w3 w4 w5", "bad", "film"])


def test_mixed_lengths_do_not_change_an_answer(wire: Wire) -> None:
    texts = [" ".join(f"w{number}" for number in range(first, first + 1 + first % 14)) for first in range(36)]
    assert_answers(wire, texts, "uncached")


def test_only_requested_outputs_are_answered(grpc: Wire) -> None:
    given = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([["good"]], dtype=object))
    result = grpc.client.infer("text", [given], outputs=[triton_grpc.InferRequestedOutput("SCORE")])
    assert [output.name for output in result.get_response().outputs] == ["SCORE"]


BAD = {
    "empty": (b"", "TEXT[1]: the text is empty"),
    "white space": (b" \n\t", "TEXT[1]: nothing to read in its 3 bytes"),
    "control characters": (b"\x00\x01", "TEXT[1]: nothing to read in its 2 bytes"),
    "not UTF-8": (b"good \xff film", "TEXT[1]: not valid UTF-8: byte 0xff at position 5 of 11"),
    "too many bytes": (b"a" * 100_001, "TEXT[1]: 100001 bytes, of which this model takes 100000"),
    "too many tokens": (b"film " * 20, "TEXT[1]: 22 tokens, of which this model takes 16"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_text_is_refused_twice(wire: Wire, name: str) -> None:
    bad, words = BAD[name]
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            wire.ask([b"good", bad], "text")
        assert caught.value.kind in ("400", "INVALID_ARGUMENT")
        assert words in caught.value.message


def test_bad_requests_fail_alone_in_their_batch(server: TritonServer, grpc: Wire) -> None:
    before_texts, before_batches = executions(grpc, "waiting")
    good = ["good film", "bad film", "w1 w2", "w3"]
    for _ in range(2):
        answers = together(
            server,
            *(lambda wire, text=text: wire.ask([text, "film"], "waiting") for text in good),
            *(lambda wire, bad=bad: wire.ask([b"good", bad], "waiting") for bad, _ in BAD.values()),
        )
        for text, answer in zip(good, answers[: len(good)], strict=True):
            assert answer.probabilities == pytest.approx(
                np.stack([probabilities(text), probabilities("film")]), abs=1e-6
            )
        for refusal, (_, words) in zip(answers[len(good) :], BAD.values(), strict=True):
            assert isinstance(refusal, Refusal)
            assert refusal.kind == "INVALID_ARGUMENT"
            assert words in refusal.message
    sent = 2 * (len(good) + len(BAD)) * 2  # rounds, requests, texts; Triton counts refused ones too, a moment later
    eventually(lambda: executions(grpc, "waiting")[0] - before_texts == sent, 10, f"counting {sent} texts")
    batches = executions(grpc, "waiting")[1] - before_batches
    assert batches <= 4, "the requests did not meet in one batch, so nothing was shown"


def test_truncation(wire: Wire, server: TritonServer) -> None:
    before = metrics(server, "cut")("truncated_texts_total")
    text = " ".join(f"w{number}" for number in range(20))
    for _ in range(2):
        assert_answers(wire, [text, "good film", "w1 w2 w3 w4 w5 w6"], "cut", max_length=8)
    assert metrics(server, "cut")("truncated_texts_total") - before == 2


def test_version_n_calls_version_n(grpc: Wire) -> None:
    for version in (1, 2):
        result = grpc.infer("versions", {"TEXT": np.array([[b"good film"]], dtype=object)}, version=str(version))
        assert result.as_numpy("PROBABILITIES")[0] == pytest.approx(probabilities("good film", version), abs=1e-6)


def test_the_tensor_model_can_be_called_alone(wire: Wire) -> None:
    ids = np.array([[VOCABULARY[word] for word in ("[CLS]", "good", "[SEP]", "[PAD]")]], dtype=np.int64)
    mask = np.array([[1, 1, 1, 0]], dtype=np.int64)
    logits = wire.infer("bag", {"input_ids": ids, "attention_mask": mask}, version="1").as_numpy("logits")[0]
    assert logits == pytest.approx(backend_models.weights(1)[ids[0, :3]].sum(axis=0), abs=1e-6)


def test_metrics_count_texts_tokens_and_the_cache(server: TritonServer, grpc: Wire) -> None:
    before = metrics(server, "small_cache")
    texts = ["w10 w11", "w12"]
    grpc.ask([*texts, "w10 w11"], "small_cache")  # the third is the first again
    grpc.ask(texts, "small_cache")
    with pytest.raises(Refusal):
        grpc.ask([b"\xff"], "small_cache")
    grpc.ask(["w13", "w14", "w15"], "small_cache")
    after = metrics(server, "small_cache")
    added = {name: after(name) - before(name) for name in ("texts_total", "cache_hits_total", "cache_misses_total")}
    assert added == {"texts_total": 9, "cache_hits_total": 3, "cache_misses_total": 5}
    assert after("cache_entries") == 2
    assert after("tokens_total") - before("tokens_total") == 4 + 3 + 3 * 3
    assert after("padding_tokens_total") - before("padding_tokens_total") in (0, 1)
    rejected = [value("rejected_texts_total", reason="not_utf8") for value in (before, after)]
    assert rejected[1] - rejected[0] == 1


def test_metrics_count_requests_by_outcome_and_duration(server: TritonServer, grpc: Wire) -> None:
    before = metrics(server, "patient")
    grpc.ask(["good"], "patient")
    grpc.ask(["bad wait0.5s"], "patient")
    for bad in ([b"\xff"], [b"good", b"film " * 20]):
        with pytest.raises(Refusal, match="TEXT"):
            grpc.ask(bad, "patient")
    with pytest.raises(Refusal, match="not a number"):
        grpc.ask(["nan film"], "patient")
    after = metrics(server, "patient")
    counted = {one: after("requests_total", outcome=one) - before("requests_total", outcome=one) for one in OUTCOMES}
    assert {one: count for one, count in counted.items() if count} == {"answered": 2, "invalid": 2, "failed": 1}
    added = {
        le: after("request_duration_seconds_bucket", le=le) - before("request_duration_seconds_bucket", le=le)
        for le in BUCKETS
    }
    assert list(added.values()) == sorted(added.values()), "buckets hold what narrower ones hold"
    assert added["0.5"] <= 1, "waited half a second"
    assert added["+Inf"] == 2
    assert after("request_duration_seconds_count") - before("request_duration_seconds_count") == 2
    seconds = after("request_duration_seconds_sum") - before("request_duration_seconds_sum")
    microseconds = after("request_duration_us_total") - before("request_duration_us_total")
    assert seconds == pytest.approx(microseconds / 1e6, abs=1e-5)
    assert seconds > 0.5
    assert after("compute_duration_us_total") - before("compute_duration_us_total") > 0.5e6


def test_without_a_cache_nothing_is_a_hit(server: TritonServer, grpc: Wire) -> None:
    for _ in range(2):
        assert_answers(grpc, ["good film", "good film"], "uncached")
    value = metrics(server, "uncached")
    assert value("cache_hits_total") == value("cache_misses_total") == value("cache_entries") == 0


def test_the_caches_of_two_instances_are_one_number(server: TritonServer) -> None:
    before = metrics(server, "two")
    texts = [f"w{number} w{number + 1}" for number in range(20)]
    together(server, *(lambda wire, text=text: [wire.ask([text], "two") for _ in range(3)] for text in texts))
    after = metrics(server, "two")
    assert after("texts_total") - before("texts_total") == 60
    assert after("cache_entries") - before("cache_entries") == after("cache_misses_total") - before(
        "cache_misses_total"
    )


def test_an_inner_error_is_an_error_and_is_never_cached(grpc: Wire) -> None:
    for _ in range(2):  # the slow model fails every other time
        with pytest.raises(Refusal) as caught:
            grpc.ask(["fail"], "patient")
        assert caught.value.kind == "INTERNAL"
        assert "slow: " in caught.value.message
        assert "told to fail" in caught.value.message
        assert grpc.ask(["good"], "patient").scores == pytest.approx([0.5])
        grpc.infer("slow", ids_and_mask("fail"))  # succeeds; the next one fails


def test_an_answer_that_is_not_a_number_is_an_error_twice(wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(Refusal, match=r"TEXT\[1\]: slow answered not a number"):
            wire.ask(["good", "nan"], "patient")


def test_a_full_inner_queue_is_unavailable(server: TritonServer) -> None:
    # One in the model, one in its queue of one, more than that is refused. 16 tokens a call: a text each.
    def busy(wire: Wire) -> Any:
        return wire.infer("slow", ids_and_mask("wait0.5s"))

    def ask(wire: Wire) -> Any:
        time.sleep(0.2)
        return wire.ask(["good wait0.5s"], "patient")

    refusals = [result for result in together(server, *[busy] * 6, ask) if isinstance(result, Refusal)]
    assert any("patient" not in refusal.message for refusal in refusals)
    before = metrics(server, "patient")("requests_total", outcome="queue_full")
    (*_, last) = together(server, *[busy] * 6, ask)
    assert isinstance(last, Refusal)
    assert last.kind == "UNAVAILABLE"
    assert "slow: " in last.message
    assert metrics(server, "patient")("requests_total", outcome="queue_full") - before == 1


def test_a_deadline_travels_to_the_inner_queue(server: TritonServer, grpc: Wire) -> None:
    def busy(wire: Wire) -> Any:
        return wire.infer("slow", ids_and_mask("wait0.5s"))

    def hurried(wire: Wire) -> Any:
        time.sleep(0.1)
        return wire.ask(["good film in a hurry"], "patient", timeout_us=100_000)

    before = metrics(server, "patient")("requests_total", outcome="timed_out")
    _, late = together(server, busy, hurried)
    assert isinstance(late, Refusal)
    assert late.kind == "UNAVAILABLE"
    assert metrics(server, "patient")("requests_total", outcome="timed_out") - before == 1
    assert grpc.ask(["good film in a hurry"], "patient").scores == pytest.approx([0.5])


def test_a_model_may_have_less_patience_than_its_callers(server: TritonServer, grpc: Wire) -> None:
    before = executions(grpc, "impatient")[0]
    asking, waiting = (Wire("grpc", server) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(asking.ask, ["wait0.5s"], "impatient")
        eventually(lambda: executions(grpc, "impatient")[0] == before + 1, 10, "the arrival of the slow text")
        late = pool.submit(waiting.ask, ["good"], "impatient", timeout_us=30_000_000)
        with pytest.raises(Refusal, match="timeout passed") as caught:
            late.result()
        assert caught.value.kind == "UNAVAILABLE"
        assert len(busy.result().labels) == 1
    for wire in (asking, waiting):
        wire.close()


def test_while_the_model_is_busy_known_texts_are_answered_and_a_full_queue_refuses(server: TritonServer) -> None:
    http, grpc, asking = (Wire(protocol, server) for protocol in ("http", "grpc", "grpc"))
    grpc.ask(["known"], "bounded")
    refused = metrics(server, "bounded")("requests_total", outcome="queue_full")
    before = executions(grpc, "bounded")[0]
    slow = [f"wait0.5s {' '.join(WORDS[6:17])} w{number}" for number in range(4)]  # 15 tokens: a call each
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(asking.ask, slow, "bounded")
        eventually(lambda: executions(grpc, "bounded")[0] == before + 4, 10, "the arrival of the slow texts")
        for wire, kind in ((http, "503"), (grpc, "UNAVAILABLE")):
            assert wire.ask(["known"], "bounded").scores == pytest.approx([0.5])
            with pytest.raises(Refusal, match="max_queue_size") as caught:
                wire.ask(["good"], "bounded")
            assert caught.value.kind == kind
        assert not busy.done()
        assert len(busy.result().labels) == 4
    value = metrics(server, "bounded")
    assert value("requests_total", outcome="queue_full") - refused == 2
    assert value("waiting_texts") == 0
    for wire in (http, grpc, asking):
        wire.close()


def ids_and_mask(word: str) -> dict[str, np.ndarray]:
    ids = np.array([[VOCABULARY[word]]], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_many_users_get_their_own_answers(server: TritonServer) -> None:
    def user(seed: int) -> Callable[[Wire], int]:
        def run(wire: Wire) -> int:
            rng = np.random.default_rng(seed)
            for _ in range(30):
                texts = [" ".join(rng.choice(backend_models.WORDS[:20], rng.integers(1, 14))) for _ in range(3)]
                assert_answers(wire, texts)
            return 30

        return run

    assert together(server, *(user(seed) for seed in range(8))) == [30] * 8


# --- Loading: completed or refused ----------------------------------------------------------------


@pytest.fixture(scope="module")
def loading_server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """A server on an empty repository, whose models are loaded by the tests."""
    repository = tmp_path_factory.mktemp("loading")
    backends = backend_models.write_backends(tmp_path_factory.mktemp("loading_backends"))
    return module_server_factory(repository, backends=backends, extra_args=["--model-control-mode=explicit"])


def test_a_config_without_tensors_is_completed(loading_server: TritonServer) -> None:
    write_tensor_model(loading_server.repository, "bag")
    write_text_model(loading_server.repository, "brief", "bag", tensors=False, batching="")
    assert load(loading_server.http_url, "bag") == ""
    assert load(loading_server.http_url, "brief") == ""
    wire = Wire("http", loading_server)
    assert_answers(wire, ["good film"], "brief")
    config = wire.client.get_model_config("brief")
    wire.close()
    assert [tensor["name"] for tensor in config["output"]] == ["LABEL", "SCORE", "PROBABILITIES"]
    assert config["output"][2]["dims"] == [2]
    assert "dynamic_batching" in config


def test_what_waits_when_the_model_is_unloaded_is_still_answered(loading_server: TritonServer) -> None:
    write_tensor_model(loading_server.repository, "slow", backend="slow")
    write_text_model(loading_server.repository, "leaving", "slow")
    assert load(loading_server.http_url, "slow") == load(loading_server.http_url, "leaving") == ""
    wire, asking = Wire("grpc", loading_server), Wire("grpc", loading_server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asking.ask, ["wait0.5s"], "leaving")
        eventually(lambda: executions(wire, "leaving")[0] == 1, 10, "the arrival of the text")
        wire.client.unload_model("leaving")
        assert waiting.result().scores == pytest.approx([0.5])
    with pytest.raises(Refusal, match="leaving"):
        wire.ask(["good"], "leaving")
    for each in (wire, asking):
        each.close()


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "1" / name).unlink()


def rewrite(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def replace(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: rewrite("config.pbtxt", (folder / "config.pbtxt").read_text().replace(old, new))(folder)


@pytest.mark.parametrize(
    ("parameters", "change", "words"),
    [
        ({"task": "summarization"}, None, "task is 'summarization'; this bert_text serves text-classification"),
        ({"tensor_model": None}, None, "parameter tensor_model is missing"),
        ({"max_lenght": "3"}, None, "unknown parameter max_lenght"),
        ({"max_length": "2"}, None, "max_length is 2"),
        ({}, remove("labels.json"), "labels.json is missing"),
        ({}, remove("tokenizer.json"), "tokenizer.json is missing"),
        ({}, rewrite("1/tokenizer.json", "{}"), "not a tokenizer"),
        ({}, rewrite("1/labels.json", '["one", "two", "three"]'), "PROBABILITIES"),
        ({}, replace("TYPE_STRING dims: 1", "TYPE_INT64 dims: 1"), "TEXT"),
        ({}, replace("max_batch_size: 64", "max_batch_size: 0"), "max_batch_size is 0"),
    ],
)
def test_what_cannot_be_served_is_refused_at_load(
    loading_server: TritonServer,
    request: pytest.FixtureRequest,
    parameters: dict[str, str | None],
    change: Callable[[Path], None] | None,
    words: str,
) -> None:
    model = f"broken_{request.node.callspec.indices['words']}"
    write_text_model(loading_server.repository, model, "bag", **parameters)
    if change is not None:
        change(loading_server.repository / model)
    objection = load(loading_server.http_url, model)
    assert words in objection
    assert words in next(line for line in objection.splitlines() if model in line), "one line says it all"
