"""Closed and open loads: what they count, and how they end."""

from __future__ import annotations

import threading

import pytest

from bench.in_process import arrival_order, one_text, sorted_budget
from bench.load import FAILURES_THAT_END_A_LOAD, closed, open_rate, percentile


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.01, 1), (1.0, 100), (0.0, 1)])
def test_the_nearest_rank_percentile(share: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


def test_a_closed_load_takes_texts_in_order_and_from_the_start_again() -> None:
    asked: list[str] = []

    def classify(text: str) -> str:
        asked.append(text)
        if len(asked) > 4:
            raise RuntimeError("enough")
        return text.upper()

    answered = closed(classify, ["a", "b", "c"], 1, 60, 2)
    assert answered.answers == [(2, "C"), (0, "A"), (1, "B"), (2, "C")]
    assert len(answered.latencies_ms) == 3  # without the first
    assert len(answered.failures) == FAILURES_THAT_END_A_LOAD


def test_what_is_under_way_when_time_is_up_is_waited_for() -> None:
    everybody = threading.Barrier(3)

    def classify(text: str) -> str:
        everybody.wait(60)
        return text

    answered = closed(classify, ["a"], 3, 0.0, 0)
    assert len(answered.answers) == len(answered.latencies_ms) == 3
    assert answered.per_s == 3 / answered.elapsed_s


def test_a_load_that_only_fails_ends_early() -> None:
    def classify(text: str) -> str:
        raise RuntimeError(text)

    answered = closed(classify, ["x"], 4, 1e9, 0)
    assert answered.failures[0] == "RuntimeError: x"
    assert FAILURES_THAT_END_A_LOAD <= len(answered.failures) < FAILURES_THAT_END_A_LOAD + 4
    assert not answered.answers


def test_an_open_load_arrives_at_its_rate_whatever_becomes_of_the_calls() -> None:
    answered = open_rate(str.upper, ["a", "b"], 2000, 0.1)
    assert 120 < len(answered.answers) < 280
    assert len(answered.latencies_ms) == len(answered.answers)


def test_layouts() -> None:
    tokens = [30, 5, 300, 10, 200, 600]
    assert list(one_text(tokens)) == [[0], [1], [2], [3], [4], [5]]
    assert list(arrival_order(tokens, 4)) == [[0, 1, 2, 3], [4, 5]]
    assert list(sorted_budget(tokens, 512)) == [[1, 3, 0, 4], [2], [5]]
