"""Requests to answers without Triton, with real threads: who is answered, who is not, and what is computed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backends.bert_text import metrics, scheduler, texts
from backends.bert_text.decode import Decoder
from backends.bert_text.scheduler import Scheduler
from backends.bert_text.settings import Settings
from backends.bert_text.text_request import (
    CANCELLED,
    INTERNAL,
    INVALID_ARG,
    OUTCOMES,
    UNAVAILABLE,
    Failure,
    TextRequest,
)
from backends.bert_text.texts import NO_TOKENS, NOT_UTF8, TOO_MANY_TOKENS, BadText, no_tokens, too_many_tokens
from backends.bert_text.tokenise import Tokens

MAX_LENGTH = 16
PATIENCE_S = 30.0


class Words:
    """A tokenizer: every word is its length, between 101 and 102; "unspeakable" is no token."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> list[Tokens | BadText]:
        self.calls.append(list(texts))
        return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> Tokens | BadText:
        words = [word for word in text.split() if word != "unspeakable"]
        if not words:
            return no_tokens(len(text))
        if len(words) + 2 > MAX_LENGTH:
            return too_many_tokens(len(words) + 2, MAX_LENGTH)
        return Tokens([101, *map(len, words), 102], truncated=text.startswith("cut"))


class Model:
    """A tensor model: logit 1 is the sum of a row's tokens / 100. Can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[dict[str, np.ndarray]] = []
        self.timeouts_us: list[int] = []
        self.answer: Callable[[np.ndarray], Any] | None = None

    def __call__(self, inputs: dict[str, np.ndarray], timeout_us: int) -> Any:
        self.calls.append(inputs)
        self.timeouts_us.append(timeout_us)
        ids = inputs["input_ids"] * inputs["attention_mask"]
        if self.answer is not None:
            return self.answer(ids)
        return logits_of(ids)


def logits_of(ids: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(ids)), ids.sum(axis=1) / 100.0 - 2.2], axis=1).astype(np.float32)


def expected(text: bytes) -> list[float]:
    words = [word for word in text.decode().split() if word != "unspeakable"]
    logit = (203 + sum(map(len, words))) / 100.0 - 2.2
    return [1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))]


class Gate:
    """Holds calls of the tensor model until it is opened."""

    def __init__(self, model: Model, holds: Callable[[np.ndarray], bool] = lambda _: True) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.then_fails = False
        self._holds = holds
        model.answer = self._answer

    def _answer(self, ids: np.ndarray) -> Any:
        if self._holds(ids) and not self.open.is_set():
            self.reached.set()
            assert self.open.wait(PATIENCE_S)
            if self.then_fails:
                return Failure(UNAVAILABLE, "inner: queue full")
        return logits_of(ids)


class Bench:
    """A scheduler with everything around it visible."""

    def __init__(self, **parameters: str) -> None:
        values = {
            "task": "text-classification",
            "tensor_model": "inner",
            "tensor_inputs": "input_ids,attention_mask",
            "max_length": str(MAX_LENGTH),
            "max_tokens": "64",
            "pad_token_id": "0",
            **parameters,
        }
        config = {"max_batch_size": 64, "parameters": {key: {"string_value": value} for key, value in values.items()}}
        settings = Settings.from_model_config(config)
        self.words, self.model = Words(), Model()
        self.counts: Counter[str] = Counter()
        self._adding = threading.Lock()
        self.gauges: dict[str, Callable[[], int]] = {}
        self.log: list[str] = []
        self._answered: dict[int, threading.Event] = {}
        self.scheduler = Scheduler(
            settings,
            self.words,  # type: ignore[arg-type]
            Decoder(settings.task, ["negative", "positive"]),
            self.model,
            add=self._add,
            watch=self.gauges.__setitem__,
            log=self.log.append,
        )

    def _add(self, counts: metrics.Counts) -> None:
        with self._adding:
            for (name, label), amount in counts.items():
                self.counts[f"{name}{{{label}}}" if label else name] += amount

    @property
    def outcomes(self) -> dict[str, int]:
        """Requests by what became of them."""
        answered = sum(count for name, count in self.counts.items() if name.startswith(metrics.DURATION_BUCKET))
        others = {outcome: self.counts[f"{metrics.REQUESTS}{{{outcome}}}"] for outcome in OUTCOMES}
        return {outcome: count for outcome, count in {**others, "answered": answered}.items() if count}

    def _respond(self, request: TextRequest) -> None:
        event = self._answered[id(request)]
        assert not event.is_set(), "answered twice"
        event.set()

    def send(self, *requests: list[bytes] | TextRequest) -> list[TextRequest]:
        """As one call of ``execute``."""
        given = [request if isinstance(request, TextRequest) else TextRequest(request) for request in requests]
        for request in given:
            self._answered[id(request)] = threading.Event()
            request.respond = self._respond
        for request in self.scheduler.submit(given):
            self._respond(request)
        return given

    def answered(self, request: TextRequest) -> bool:
        """Whether it has its answer by now."""
        return self._answered[id(request)].is_set()

    def wait(self, *requests: TextRequest) -> None:
        for request in requests:
            assert self._answered[id(request)].wait(PATIENCE_S), "not answered"

    def run(self, *requests: list[bytes] | TextRequest) -> list[TextRequest]:
        given = self.send(*requests)
        self.wait(*given)
        return given


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.scheduler.close()


@pytest.fixture
def single() -> Iterator[Bench]:
    """One call of the tensor model at a time."""
    made = Bench(calls_in_flight="1")
    yield made
    made.scheduler.close()


def assert_answers(request: TextRequest) -> None:
    assert request.failure is None
    assert request.values(2).tolist() == [pytest.approx(expected(text), abs=1e-6) for text in request.texts]


def assert_failure(request: TextRequest, code: str, words: str) -> None:
    assert request.failure is not None
    assert request.failure.code == code
    assert words in request.failure.message


def test_each_request_gets_its_own_rows_in_order(bench: Bench) -> None:
    for request in bench.run([b"good film", b"bad"], [b"a very long film indeed"], [b"bad", b"good"]):
        assert_answers(request)


def test_a_request_without_texts_gets_no_rows(bench: Bench) -> None:
    (request,) = bench.run([])
    assert request.values(2).shape == (0, 2)
    assert bench.model.calls == []


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        (b"\xff", NOT_UTF8, "TEXT[1]: not valid UTF-8"),
        (b"", NO_TOKENS, "TEXT[1]: the text is empty"),
        (b"unspeakable", NO_TOKENS, "TEXT[1]: nothing to read"),
        (b"w " * 20, TOO_MANY_TOKENS, "TEXT[1]: 22 tokens, of which this model takes 16"),
    ],
)
def test_a_bad_text_fails_its_request_alone_and_every_time(bench: Bench, bad: bytes, reason: str, words: str) -> None:
    for _ in range(2):
        before, broken, after = bench.run([b"good film"], [b"fine", bad, b"fine too"], [b"bad film"])
        assert_failure(broken, INVALID_ARG, words)
        assert_answers(before)
        assert_answers(after)
    assert bench.counts[f"bert_text_rejected_texts_total{{{reason}}}"] == 2
    assert bench.outcomes == {"answered": 4, "invalid": 2}


def test_the_same_bad_text_in_two_requests_names_each_ones_index(bench: Bench) -> None:
    first, second = bench.run([b"unspeakable"], [b"fine", b"unspeakable"])
    assert_failure(first, INVALID_ARG, "TEXT[0]: ")
    assert_failure(second, INVALID_ARG, "TEXT[1]: ")


def test_texts_only_a_failed_request_wants_are_not_computed(bench: Bench) -> None:
    bench.run([b"wanted by nobody", b"\xff"])
    assert bench.words.calls == bench.model.calls == []
    bench.run([b"wanted by nobody either", b"unspeakable"])
    assert bench.model.calls == []


def test_a_text_that_comes_twice_is_computed_once(bench: Bench) -> None:
    for request in bench.run([b"good", b"good"], [b"good"]):
        assert_answers(request)
    assert [len(call["input_ids"]) for call in bench.model.calls] == [1]
    assert (bench.counts[metrics.CACHE_HITS], bench.counts[metrics.CACHE_MISSES]) == (2, 1)


def test_a_cached_text_is_neither_tokenised_nor_computed(bench: Bench) -> None:
    bench.run([b"good", b"cut film"])
    for request in bench.run([b"good"], [b"cut film", b"new"]):
        assert_answers(request)
    assert bench.words.calls == [["good", "cut film"], ["new"]]
    assert bench.counts[metrics.CACHE_HITS] == 2
    assert bench.counts[metrics.TRUNCATED] == 2
    assert bench.gauges[metrics.CACHE_ENTRIES]() == 3


def test_a_cache_of_size_0_computes_again_and_counts_nothing() -> None:
    bench = Bench(cache_size="0")
    for _ in range(2):
        assert_answers(*bench.run([b"good", b"good"]))
    assert len(bench.model.calls) == 2
    assert bench.counts[metrics.CACHE_HITS] == bench.counts[metrics.CACHE_MISSES] == 0


def test_the_cache_is_bounded() -> None:
    bench = Bench(cache_size="2")
    bench.run([b"one", b"two two", b"three three three"])
    assert bench.gauges[metrics.CACHE_ENTRIES]() == 2


def test_tokens_and_padding_are_counted(bench: Bench) -> None:
    bench.run([b"a b", b"a b c"])
    assert bench.counts[metrics.TOKENS] == 9
    assert bench.counts[metrics.PADDING_TOKENS] == 1
    assert (bench.counts[metrics.TEXTS], bench.counts[metrics.EXECUTIONS]) == (2, 1)


def test_an_inner_failure_reaches_only_the_requests_concerned_and_is_not_cached(bench: Bench) -> None:
    # 14 words fill an execution of their own (16 tokens, 4 rows of 64).
    long, short = b"w " * 14, b"x"

    def full_for_the_long(ids: np.ndarray) -> Any:
        full = Failure(UNAVAILABLE, "inner: queue full", outcome="queue_full")
        return full if ids.shape[1] == 16 else logits_of(ids)

    bench.model.answer = full_for_the_long
    ok, failed, mixed = bench.run([short], [long], [short, long])
    assert_answers(ok)
    assert_failure(failed, UNAVAILABLE, "queue full")
    assert_failure(mixed, UNAVAILABLE, "queue full")
    bench.model.answer = None
    assert_answers(*bench.run([long]))
    assert bench.outcomes == {"answered": 2, "queue_full": 2}


def test_an_answer_that_is_not_a_number_is_an_error_of_its_text_and_is_not_cached(bench: Bench) -> None:
    bench.model.answer = lambda ids: np.where(ids[:, 1:2] == 4, np.nan, logits_of(ids))
    ok, broken = bench.run([b"bad"], [b"bad", b"good"])
    assert_answers(ok)
    assert_failure(broken, INTERNAL, "TEXT[1]: inner answered not a number")
    bench.model.answer = None
    assert_answers(*bench.run([b"good"]))
    assert bench.outcomes == {"answered": 2, "failed": 1}


@pytest.mark.parametrize("shape", [(1,), (3, 2), (1, 2, 1)])
def test_an_answer_of_the_wrong_shape_is_an_error(bench: Bench, shape: tuple[int, ...]) -> None:
    bench.model.answer = lambda ids: np.zeros(shape, dtype=np.float32)
    (request,) = bench.run([b"good"])
    assert_failure(request, INTERNAL, "inner answered logits of shape")


def test_a_deadline_travels_to_the_inner_call(bench: Bench) -> None:
    bench.run(TextRequest([b"good"], deadline_s=time.monotonic() + 5))
    assert 4e6 < bench.model.timeouts_us[0] <= 5e6


def test_an_execution_waits_as_long_as_its_most_patient_request(bench: Bench) -> None:
    soon, late = time.monotonic() + 5, time.monotonic() + 50
    bench.run(TextRequest([b"good"], deadline_s=soon), TextRequest([b"fine"], deadline_s=late))
    assert 49e6 < bench.model.timeouts_us[0] <= 50e6
    bench.run(TextRequest([b"so good"], deadline_s=soon), TextRequest([b"so fine"]))
    assert bench.model.timeouts_us[1] == 0


def test_a_request_past_its_deadline_is_not_computed(bench: Bench) -> None:
    late, patient = bench.run(TextRequest([b"late"], deadline_s=time.monotonic() - 1), TextRequest([b"patient"]))
    assert_failure(late, UNAVAILABLE, "timeout passed")
    assert_answers(patient)
    assert [call["input_ids"].tolist() for call in bench.model.calls] == [[[101, 7, 102]]]
    assert bench.outcomes == {"answered": 1, "timed_out": 1}


def test_cancellation_is_asked_about_only_after_a_long_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "ASK_CANCELLED_AFTER_S", 3600.0)
    now_s = time.monotonic()
    (quick,) = bench.run(TextRequest([b"quick"], received_s=now_s, is_cancelled=lambda: True))
    assert_answers(quick)
    monkeypatch.setattr(scheduler, "ASK_CANCELLED_AFTER_S", -1.0)
    gone, waiting = bench.run(
        TextRequest([b"gone"], received_s=now_s, is_cancelled=lambda: True), TextRequest([b"waiting"])
    )
    assert_failure(gone, CANCELLED, "cancelled")
    assert_answers(waiting)
    assert bench.outcomes == {"answered": 2, "cancelled": 1}


def test_a_cached_text_is_answered_while_the_model_is_busy(bench: Bench) -> None:
    bench.run([b"known"])
    gate = Gate(bench.model)
    busy = bench.send(*([b"new " * number] for number in range(1, 14)))
    assert gate.reached.wait(PATIENCE_S)
    assert_answers(*bench.run([b"known"]))
    assert not any(map(bench.answered, busy))
    gate.open.set()
    bench.wait(*busy)


def test_what_arrives_while_a_call_is_in_flight_shares_the_next_one(single: Bench) -> None:
    gate = Gate(single.model)
    (first,) = single.send([b"first"])
    assert gate.reached.wait(PATIENCE_S)
    later = [*single.send([b"a"]), *single.send([b"bb"]), *single.send([b"ccc"])]
    gate.open.set()
    single.wait(first, *later)
    assert [len(call["input_ids"]) for call in single.model.calls] == [1, 3]
    for request in (first, *later):
        assert_answers(request)


def test_a_short_text_does_not_wait_for_a_long_one_while_a_call_is_free(bench: Bench) -> None:
    gate = Gate(bench.model, lambda ids: ids.shape[1] == MAX_LENGTH)
    (long,) = bench.send([b"w " * 14])
    assert gate.reached.wait(PATIENCE_S)
    assert_answers(*bench.run([b"short"]))
    assert not bench.answered(long)
    gate.open.set()
    bench.wait(long)


def test_a_text_in_flight_is_computed_once(bench: Bench) -> None:
    gate = Gate(bench.model)
    (first,) = bench.send([b"same"])
    assert gate.reached.wait(PATIENCE_S)
    (second,) = bench.send([b"same", b"same"])
    gate.open.set()
    bench.wait(first, second)
    assert_answers(second)
    assert len(bench.model.calls) == 1
    assert (bench.counts[metrics.CACHE_HITS], bench.counts[metrics.CACHE_MISSES]) == (2, 1)


def test_whoever_joins_a_call_that_fails_is_computed_again(single: Bench) -> None:
    gate = Gate(single.model)
    (first,) = single.send([b"same"])
    assert gate.reached.wait(PATIENCE_S)
    (second,) = single.send([b"same"])
    gate.then_fails = True
    gate.open.set()
    single.wait(first, second)
    assert_failure(first, UNAVAILABLE, "inner: queue full")
    assert_answers(second)


def test_a_full_queue_refuses_at_once() -> None:
    bench = Bench(calls_in_flight="1", max_queue_size="1")
    gate = Gate(bench.model)
    (running,) = bench.send([b"running"])
    assert gate.reached.wait(PATIENCE_S)
    (waiting,) = bench.send([b"waiting"])
    (refused,) = bench.send([b"one too many"])
    assert bench.answered(refused)
    assert_failure(refused, UNAVAILABLE, "max_queue_size")
    gate.open.set()
    bench.wait(running, waiting)
    assert_answers(*bench.run([b"one too many"]))
    assert bench.outcomes == {"answered": 3, "queue_full": 1}
    bench.scheduler.close()


def test_closing_fails_what_waits_and_ends_the_threads(single: Bench) -> None:
    gate = Gate(single.model)
    requests = single.send([b"computing"], [b"waiting " * 9])
    assert gate.reached.wait(PATIENCE_S)
    closing = threading.Thread(target=single.scheduler.close)
    closing.start()
    single.wait(*requests)
    gate.open.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    for request in requests:
        assert_failure(request, UNAVAILABLE, "unloaded")
    (late,) = single.run([b"late"])
    assert_failure(late, UNAVAILABLE, "unloaded")
    assert single.outcomes == {"failed": 3}


class Panic(BaseException):
    """What a panic in `tokenizers` looks like."""


def test_a_crash_of_the_tensor_model_is_an_error_and_not_the_end(single: Bench) -> None:
    def crash(_: np.ndarray) -> np.ndarray:
        raise Panic("out of memory")

    single.model.answer = crash
    (broken,) = single.run([b"good"])
    assert_failure(broken, INTERNAL, "Panic: out of memory")
    assert single.log == [": Panic: out of memory"]
    single.model.answer = None
    assert_answers(*single.run([b"good"]))


def test_a_text_that_crashes_the_tokenizer_fails_alone(single: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = single.words.encode

    def crash(given: Sequence[str]) -> list[Tokens | BadText]:
        if any("poison" in text for text in given):
            raise Panic("index out of bounds")
        return encode(given)

    monkeypatch.setattr(single.words, "encode", crash)
    good, bad, other = single.run([b"good"], [b"fine", b"poison"], [b"fine"])
    assert_answers(good)
    assert_answers(other)
    assert_failure(bad, INTERNAL, "TEXT[1]: the text could not be answered: Panic")


def test_an_answer_that_cannot_be_sent_keeps_no_other_from_being_sent(single: Bench) -> None:
    def gone(_: TextRequest) -> None:
        raise RuntimeError("the connection is gone")

    gate = Gate(single.model)
    (first,) = single.send([b"first"])
    assert gate.reached.wait(PATIENCE_S)
    lost, other = single.send([b"lost"], [b"other"])
    lost.respond = gone
    gate.open.set()
    single.wait(first, other)
    assert single.log == [": an answer was not sent: RuntimeError: the connection is gone"]


def test_the_queues_length_and_times_are_told(single: Bench) -> None:
    gate = Gate(single.model)
    (first,) = single.send(TextRequest([b"first"], received_s=time.monotonic()))
    assert gate.reached.wait(PATIENCE_S)
    rest = single.send(*(TextRequest([text], received_s=time.monotonic() - 2) for text in (b"a", b"bb")))
    assert single.gauges[metrics.WAITING_TEXTS]() == 2
    gate.open.set()
    single.wait(first, *rest)
    assert single.gauges[metrics.WAITING_TEXTS]() == 0
    assert single.counts[metrics.EXECUTED_TEXTS] == 3
    assert single.counts[metrics.QUEUE_US] > 4e6
    assert single.counts[metrics.REQUEST_US] > 4e6
    assert sum(single.counts[f"{metrics.DURATION_BUCKET}{{{le}}}"] for le in ("2.5", "5", "10", "+Inf")) == 2


def test_no_text_is_said_to_wait_once_its_request_is_refused(bench: Bench) -> None:
    bench.run([b"unspeakable"], TextRequest([b"late"], deadline_s=time.monotonic() - 1))
    bench.scheduler.close()  # ends the threads, so nothing is being read any more
    assert bench.gauges[metrics.WAITING_TEXTS]() == 0


def test_the_time_in_the_tensor_model_is_counted(bench: Bench) -> None:
    gate = Gate(bench.model)
    (request,) = bench.send([b"good"])
    assert gate.reached.wait(PATIENCE_S)
    assert bench.counts[metrics.EXECUTIONS] == 0
    time.sleep(0.05)
    gate.open.set()
    bench.wait(request)
    assert bench.counts[metrics.EXECUTIONS] == 1
    assert bench.counts[metrics.COMPUTE_US] >= 50_000


TEXTS = st.one_of(
    st.lists(st.sampled_from(["a", "bb", "ccc", "unspeakable"]), max_size=18).map(
        lambda words: " ".join(words).encode()
    ),
    st.binary(max_size=4),
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=6), min_size=1, max_size=8))
def test_any_mixture_gives_good_requests_their_answers(bench: Bench, requests: list[list[bytes]]) -> None:
    for request in bench.run(*requests):
        if any(bench_refuses(text) for text in request.texts):
            assert_failure(request, INVALID_ARG, "TEXT[")
        else:
            assert_answers(request)


def bench_refuses(raw: bytes) -> bool:
    text = texts.read(raw, 100_000)
    return isinstance(text, BadText) or isinstance(Words()._tokens(text), BadText)


def test_many_callers_get_their_own_answers() -> None:
    bench = Bench(calls_in_flight="3", cache_size="20", max_tokens="32")

    def caller(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            sent = [b" ".join(rng.choice([b"a", b"bb", b"ccc"], rng.integers(1, 7))) for _ in range(3)]
            for request in bench.run(sent[:1], sent):
                assert_answers(request)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    for request in bench.send([b"last"]):
        bench.wait(request)
    bench.scheduler.close()
