"""The queue of texts, step by step, without threads: what is to be done next, and who is settled by what was done."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from backends.bert_text.cache import digest
from backends.bert_text.layout import Budget
from backends.bert_text.text_queue import BUDGETS_AHEAD, BYTES_PER_TOKEN, Text, TextQueue, Work
from backends.bert_text.text_request import INTERNAL, INVALID_ARG, UNAVAILABLE, Answer, Failure, TextRequest
from backends.bert_text.tokenise import Tokens

BROKEN = Failure(INTERNAL, "the execution failed")


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A queue, driven by hand. A text of n words has n tokens."""

    def __init__(
        self, *, max_tokens: int = 16, cache_size: int = 10, max_queue_size: int = 0, instances: int = 1
    ) -> None:
        self.clock = Clock()
        self.queue = TextQueue(Budget(max_tokens, 8), cache_size, max_queue_size, instances, clock=self.clock)
        self.settled: list[TextRequest] = []
        self.calls: dict[int, int] = {}  # of the first text of each execution

    def request(self, *texts: str, timeout_s: float | None = None) -> TextRequest:
        deadline_s = None if timeout_s is None else self.clock.now_s + timeout_s
        return TextRequest([text.encode() for text in texts], received_s=self.clock.now_s, deadline_s=deadline_s)

    def add(self, *requests: TextRequest) -> int:
        """The texts found in the cache."""
        pairs = ((request, [(digest(raw), raw.decode()) for raw in request.texts]) for request in requests)
        settled, hits = self.queue.add(pairs)
        self.settled += settled
        return hits

    def ask(self, *texts: str, timeout_s: float | None = None) -> TextRequest:
        request = self.request(*texts, timeout_s=timeout_s)
        self.add(request)
        return request

    def take(self) -> Work:
        work = self.queue.take()
        assert work is not None
        self.settled += work.settled
        return work

    def read(self) -> list[str]:
        """Tokenise what is to be tokenised."""
        texts = self.take().to_read
        assert texts
        for text in texts:
            text.tokens = Tokens([1] * len(text.decoded.split()))
        self.queue.read(texts)
        return [text.decoded for text in texts]

    def group(self) -> list[Text]:
        """The next execution."""
        work = self.take()
        assert not work.to_read
        if work.to_compute:
            self.calls[id(work.to_compute[0])] = work.call
        return list(work.to_compute)

    def finish(self, group: list[Text], failure: Failure | None = None) -> None:
        outcomes = [(text, failure or Answer(np.array([len(text.decoded)], np.float32), False)) for text in group]
        self.settled += self.queue.finish(outcomes)
        if (call := self.calls.pop(id(group[0]), None)) is not None:
            self.queue.computed(call)


def words(texts: list[Text]) -> list[str]:
    return sorted(text.decoded for text in texts)


def test_from_arrival_to_answer_and_from_the_cache_after_that() -> None:
    bench = Bench()
    first = bench.ask("a b", "cc d")
    assert bench.read() == ["a b", "cc d"]
    assert bench.queue.waiting == 2
    group = bench.group()
    assert words(group) == ["a b", "cc d"]
    assert bench.queue.waiting == 0
    assert bench.settled == []
    bench.finish(group)
    assert bench.settled == [first]
    assert first.values(1).ravel().tolist() == [3.0, 4.0]
    again = bench.request("cc d", "a b")
    assert bench.add(again) == 2
    assert bench.settled == [first, again]
    assert again.values(1).ravel().tolist() == [4.0, 3.0]
    assert bench.queue.cached == 2


def test_an_execution_takes_what_arrived_while_the_last_one_ran() -> None:
    bench = Bench()
    bench.ask("a")
    bench.read()
    running = bench.group()
    bench.ask("b")
    bench.ask("c")
    bench.finish(running)
    bench.read()
    assert words(bench.group()) == ["b", "c"]


def test_idle_instances_share_what_waits_and_a_busy_one_gets_nothing() -> None:
    bench = Bench(instances=3)
    bench.ask("a b", "c d", "e f", "g h", "i j", "k l")
    bench.read()
    first, second, third = bench.group(), bench.group(), bench.group()
    assert [len(group) for group in (first, second, third)] == [2, 2, 2]
    bench.ask("m n", "o p", "q r", "s t")
    bench.read()
    bench.finish(second)
    assert words(bench.group()) == ["m n", "o p", "q r", "s t"]


def test_the_oldest_text_is_served_before_better_fits() -> None:
    bench = Bench()
    bench.ask("one two three four five six seven eight nine ten")
    for letter in "abcdefghijkl":
        bench.ask(letter)
    bench.read()
    assert len(bench.group()[0].decoded.split()) == 10
    assert len(bench.group()) == 8


def test_a_text_in_flight_is_not_computed_again_with_or_without_a_cache() -> None:
    bench = Bench(cache_size=0)
    first = bench.ask("a")
    bench.read()
    running = bench.group()
    second = bench.ask("a", "a")
    assert bench.queue.waiting == 0
    bench.finish(running)
    assert bench.settled == [first, second]
    third = bench.ask("a")
    assert bench.read() == ["a"]
    assert not third.settled


def test_a_failed_execution_is_not_shared_with_those_who_joined_later() -> None:
    bench = Bench()
    early = bench.ask("a")
    bench.read()
    running = bench.group()
    late = bench.ask("a")
    bench.finish(running, BROKEN)
    assert bench.settled == [early]
    assert early.failure == BROKEN
    bench.finish(bench.group())
    assert bench.settled == [early, late]
    assert late.failure is None


def test_what_is_wrong_with_a_text_is_everybodys_and_names_its_place() -> None:
    bench = Bench()
    first, second = bench.ask("a"), bench.ask("b", "a")
    texts = [text for text in bench.take().to_read if text.decoded == "a"]
    bench.finish(texts, Failure(INVALID_ARG, "is bad", of_text=True))
    assert [request.failure.message for request in (first, second) if request.failure] == [
        "TEXT[0]: is bad",
        "TEXT[1]: is bad",
    ]


def test_a_request_fails_once_and_its_other_texts_are_dropped() -> None:
    bench = Bench()
    bench.ask("a", "b c d e f g h i j k l m n o p q")
    bench.read()
    running = bench.group()
    assert words(running) == ["a"]
    bench.finish(running, BROKEN)
    assert len(bench.settled) == 1
    bench.ask("last")
    bench.read()
    assert words(bench.group()) == ["last"]


def test_who_is_late_is_told_before_anything_is_computed() -> None:
    bench = Bench()
    late, patient, other = bench.ask("a", timeout_s=1), bench.ask("a"), bench.ask("b", timeout_s=1)
    bench.read()
    bench.clock.now_s += 1
    assert words(bench.group()) == ["a"]
    assert bench.settled == [late, other]
    assert late.failure is not None
    assert late.failure.code == UNAVAILABLE
    assert not patient.settled


def test_an_execution_that_must_wait_holds_only_what_will_not_be_late_by_then() -> None:
    bench = Bench()
    bench.ask("one two")
    bench.read()
    first = bench.group()
    bench.clock.now_s += 2  # one second a token
    bench.finish(first)
    bench.ask("a b c d")
    bench.read()
    bench.group()
    impatient, patient = bench.ask("e", timeout_s=3.9), bench.ask("f", timeout_s=4.1)
    bench.read()
    assert words(bench.group()) == ["f"], "the one before it takes 4 s"
    assert not impatient.settled, "that one may still end earlier"
    assert not patient.settled


def test_who_is_late_is_told_at_the_time_while_everybody_computes() -> None:
    queue = TextQueue(Budget(16, 8), cache_size=0)
    received_s = time.monotonic()
    requests = [TextRequest([b"a"], deadline_s=received_s + timeout_s) for timeout_s in (60.0, 0.3, 0.1)]
    told: list[tuple[list[TextRequest], float]] = []

    def tell() -> None:
        while (late := queue.late()) is not None:
            told.append((late, time.monotonic() - received_s))

    thread = threading.Thread(target=tell)
    thread.start()
    for number, request in enumerate(requests):
        queue.add([(request, [(str(number).encode(), "a")])])
    work = queue.take()
    assert work is not None
    assert len(work.to_read) == 3
    for text in work.to_read:
        text.tokens = Tokens([1])
    queue.read(work.to_read)
    while len(told) < 2:
        time.sleep(0.01)
    assert [late for late, _ in told] == [[requests[2]], [requests[1]]]
    assert [at_s >= 0.1 for _, at_s in told] == [True, True]
    assert told[1][1] >= 0.3
    assert queue.waiting == 1
    queue.close()
    thread.join()


def test_who_is_late_before_tokenising_is_told_even_if_nothing_is_left_to_do() -> None:
    bench = Bench()
    late = bench.ask("a", timeout_s=1)
    bench.clock.now_s += 1
    work = bench.take()
    assert bench.settled == [late]
    assert not work.to_read
    assert not work.to_compute
    assert bench.queue.waiting == 0


def test_a_full_queue_refuses_new_texts_only() -> None:
    bench = Bench(max_queue_size=2)
    bench.ask("known")
    bench.read()
    bench.finish(bench.group())
    bench.settled.clear()
    first = bench.ask("a", "b", "c")  # what finds room comes in whole
    assert bench.settled == []
    refused, cached, joining = bench.ask("known", "d"), bench.ask("known"), bench.ask("b")
    assert bench.settled == [refused, cached]
    assert refused.failure == Failure(
        UNAVAILABLE, "3 texts wait already, of at most 2 (max_queue_size); try again later", outcome="queue_full"
    )
    assert not first.settled
    assert not joining.settled
    bench.read()
    bench.group()
    assert not bench.ask("d").settled


def test_tokenising_stays_a_few_executions_ahead() -> None:
    bench = Bench(max_tokens=16)
    texts = [f"{number:03d}".ljust(8 * BYTES_PER_TOKEN, "x") for number in range(50)]  # guessed as 8 tokens each
    for text in texts:
        bench.ask(text)
    assert bench.read() == texts[: BUDGETS_AHEAD * 16 // 8]


def test_closing_fails_all_that_wait_and_all_that_come() -> None:
    bench = Bench()
    waiting, running = bench.ask("a"), bench.ask("b", "c")
    texts = bench.take().to_read
    settled = bench.queue.close()
    assert settled == [waiting, running]
    assert {request.failure.message for request in settled if request.failure} == {"the model is being unloaded"}
    assert bench.queue.take() is None
    bench.queue.read(texts)
    bench.finish(list(texts))
    assert bench.ask("d").failure is not None


def test_a_request_that_nobody_waits_for_is_forgotten() -> None:
    bench = Bench()
    gone = bench.ask("a", "b")
    stays = bench.ask("b")
    bench.read()
    group = bench.group()
    assert bench.queue.fail([gone], BROKEN) == [gone]
    assert bench.queue.fail([gone], BROKEN) == []
    assert words(bench.queue.wanted(group)) == ["b"]
    assert not stays.settled


@pytest.mark.parametrize("texts", [0, 2])
def test_values_have_a_row_a_text(texts: int) -> None:
    request = TextRequest([b"a"] * texts)
    for index in range(texts):
        request.answer(index, Answer(np.array([0.25, 0.75], np.float32), False))
    assert request.settled
    assert request.values(2).shape == (texts, 2)
