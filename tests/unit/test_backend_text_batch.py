"""A dynamic batch without Triton: who is answered, who is not, and what is computed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backends.bert_text import batch, metrics
from backends.bert_text.batch import CANCELLED, INTERNAL, INVALID_ARG, UNAVAILABLE, BatchRunner, Failure, TextRequest
from backends.bert_text.decode import Decoder
from backends.bert_text.settings import Settings
from backends.bert_text.texts import NO_TOKENS, NOT_UTF8, TOO_MANY_TOKENS, BadText, no_tokens, too_many_tokens
from backends.bert_text.tokenise import Tokens

MAX_LENGTH = 16


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


class Bench:
    """A runner with everything around it visible."""

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
        decoder = Decoder(settings.task, ["negative", "positive"])
        self.runner = BatchRunner(settings, self.words, decoder, self.model, self._count)  # type: ignore[arg-type]

    def _count(self, name: str, amount: int = 1, reason: str = "") -> None:
        self.counts[f"{name}{{{reason}}}" if reason else name] += amount

    def run(self, *requests: list[bytes] | TextRequest) -> list[TextRequest]:
        given = [request if isinstance(request, TextRequest) else TextRequest(request) for request in requests]
        self.runner.run(given)
        return given


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.runner.close()


def assert_answers(request: TextRequest) -> None:
    assert request.failure is None
    assert request.values is not None
    assert request.values.tolist() == [pytest.approx(expected(text), abs=1e-6) for text in request.texts]


def assert_failure(request: TextRequest, code: str, words: str) -> None:
    assert request.values is None
    assert request.failure is not None
    assert request.failure.code == code
    assert words in request.failure.message


def test_each_request_gets_its_own_rows_in_order(bench: Bench) -> None:
    for request in bench.run([b"good film", b"bad"], [b"a very long film indeed"], [b"bad", b"good"]):
        assert_answers(request)


def test_a_request_without_texts_gets_no_rows(bench: Bench) -> None:
    (request,) = bench.run([])
    assert request.values is not None
    assert request.values.shape == (0, 2)
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
    assert len(bench.runner.cache) == 3


def test_a_cache_of_size_0_computes_again_and_counts_nothing() -> None:
    bench = Bench(cache_size="0")
    for _ in range(2):
        assert_answers(*bench.run([b"good", b"good"]))
    assert len(bench.model.calls) == 2
    assert bench.counts[metrics.CACHE_HITS] == bench.counts[metrics.CACHE_MISSES] == 0


def test_the_cache_is_bounded() -> None:
    bench = Bench(cache_size="2")
    bench.run([b"one", b"two two", b"three three three"])
    assert len(bench.runner.cache) == 2


def test_tokens_and_padding_are_counted(bench: Bench) -> None:
    bench.run([b"a b", b"a b c"])
    assert bench.counts[metrics.TOKENS] == 9
    assert bench.counts[metrics.PADDING_TOKENS] == 1
    assert (bench.counts[metrics.TEXTS], bench.counts[metrics.EXECUTIONS]) == (2, 1)


def test_an_inner_failure_reaches_only_the_requests_concerned_and_is_not_cached(bench: Bench) -> None:
    # 14 words fill an execution of their own (16 tokens, 4 rows of 64).
    long, short = b"w " * 14, b"x"

    def full_for_the_long(ids: np.ndarray) -> Any:
        return Failure(UNAVAILABLE, "inner: queue full") if ids.shape[1] == 16 else logits_of(ids)

    bench.model.answer = full_for_the_long
    ok, failed, mixed = bench.run([short], [long], [short, long])
    assert_answers(ok)
    assert_failure(failed, UNAVAILABLE, "queue full")
    assert_failure(mixed, UNAVAILABLE, "queue full")
    bench.model.answer = None
    assert_answers(*bench.run([long]))


def test_an_answer_that_is_not_a_number_is_an_error_of_its_text_and_is_not_cached(bench: Bench) -> None:
    bench.model.answer = lambda ids: np.where(ids[:, 1:2] == 4, np.nan, logits_of(ids))
    ok, broken = bench.run([b"bad"], [b"bad", b"good"])
    assert_answers(ok)
    assert_failure(broken, INTERNAL, "TEXT[1]: inner answered not a number")
    bench.model.answer = None
    assert_answers(*bench.run([b"good"]))


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


def test_cancellation_is_asked_about_only_in_batches_that_take_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (quick,) = bench.run(TextRequest([b"quick"], is_cancelled=lambda: True))
    assert_answers(quick)
    monkeypatch.setattr(batch, "ASK_CANCELLED_AFTER_S", -1.0)
    gone, waiting = bench.run(TextRequest([b"gone"], is_cancelled=lambda: True), TextRequest([b"waiting"]))
    assert_failure(gone, CANCELLED, "cancelled")
    assert_answers(waiting)


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
    text = batch.texts.read(raw, 100_000)
    return isinstance(text, BadText) or isinstance(Words()._tokens(text), BadText)
