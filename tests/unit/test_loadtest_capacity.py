"""The search for the largest rate, what counts as sustained, the largest batch size, the knee."""

from __future__ import annotations

import math

import pytest

from loadtest.cell import FAILED, INVALID, Capacity, CellResult
from loadtest.commands.capacity import sentences
from loadtest.conclusions.capacity import (
    RateSearch,
    Search,
    Trial,
    is_hopeless,
    judge_rate,
    knee,
    largest_batch,
    largest_rate,
)
from tests.loadtest_records import closed, opened, result, spec


class Server:
    """Sustains every rate up to its capacity; a generator may give up earlier."""

    def __init__(self, capacity_per_s: float, generator_limit_per_s: float = math.inf) -> None:
        self.capacity_per_s = capacity_per_s
        self.generator_limit_per_s = generator_limit_per_s
        self.asked: list[float] = []

    def attempt(self, rate_per_s: float) -> Trial:
        self.asked.append(rate_per_s)
        if rate_per_s > self.generator_limit_per_s:
            return Trial.UNKNOWN
        return Trial.SUSTAINED if rate_per_s <= self.capacity_per_s else Trial.BROKEN


@pytest.mark.parametrize("capacity_per_s", [0.37, 55.0, 79.0, 100.0, 131.0, 1999.0])
@pytest.mark.parametrize("start_share", [0.5, 0.8, 1.0, 1.3])
def test_the_search_finds_a_known_capacity_within_5_percent(capacity_per_s: float, start_share: float) -> None:
    server = Server(capacity_per_s)
    found = largest_rate(start_share * capacity_per_s, server.attempt)
    assert found.is_bound
    assert found.rate_per_s is not None
    assert found.rate_per_s <= capacity_per_s <= found.rate_per_s * 1.06  # 5 %, and rates of three digits
    assert len(server.asked) <= 8


def test_the_usual_search_takes_few_steps() -> None:
    server = Server(90.0)
    assert largest_rate(80.0, server.attempt).is_bound
    assert len(server.asked) <= 6


def test_a_generator_that_is_the_bottleneck_ends_the_search_and_is_not_called_a_limit() -> None:
    found = largest_rate(80.0, Server(1000.0, generator_limit_per_s=110.0).attempt)
    assert found == RateSearch(100.0, None, is_bound=False, generator_bound=True)


def test_a_generator_that_is_too_slow_at_first_is_asked_for_less() -> None:
    server = Server(1000.0, generator_limit_per_s=60.0)
    assert largest_rate(80.0, server.attempt) == RateSearch(48.0, None, is_bound=False, generator_bound=True)
    assert server.asked == [80.0, 48.0]
    server = Server(1000.0, generator_limit_per_s=0.0)
    assert largest_rate(80.0, server.attempt, max_steps=3).rate_per_s is None
    assert len(server.asked) == 3


def test_running_out_of_steps_is_not_called_a_limit() -> None:
    found = largest_rate(80.0, Server(10_000.0).attempt, max_steps=3)
    assert found == RateSearch(125.0, None, is_bound=False, generator_bound=False)


def test_no_rate_is_sustained() -> None:
    server = Server(0.0)
    found = largest_rate(80.0, server.attempt)
    assert found.rate_per_s is None
    assert not found.is_bound
    assert server.asked == sorted(server.asked, reverse=True)


@pytest.mark.parametrize(
    ("cell", "trial"),
    [
        (opened(50.0, requests_per_s=50.0, p99_ms=499.0), Trial.SUSTAINED),
        (opened(50.0, requests_per_s=44.0, p99_ms=499.0), Trial.SUSTAINED),  # few arrivals, all of them answered
        (opened(50.0, requests_per_s=50.0, p99_ms=501.0), Trial.BROKEN),
        (opened(50.0, requests_per_s=50.0, p99_ms=80.0, verdict=FAILED), Trial.BROKEN),
        (opened(50.0, requests_per_s=46.0, p99_ms=80.0, failures={"DeadlineExceededError": 40}), Trial.BROKEN),
        (opened(50.0, requests_per_s=0.0, p99_ms=None, verdict=FAILED), Trial.BROKEN),
        (opened(50.0, requests_per_s=50.0, p99_ms=80.0, verdict=INVALID), Trial.UNKNOWN),
    ],
)
def test_what_counts_as_sustained(cell: CellResult, trial: Trial) -> None:
    assert judge_rate(cell, 500.0) is trial


def test_the_largest_batch_size_within_the_limit() -> None:
    cells = [
        result(spec("b1", batch_size=1), p99_ms=40.0),
        result(spec("b8", batch_size=8), p99_ms=90.0),
        result(spec("b16", batch_size=16), p99_ms=60.0, verdict=FAILED),
        result(spec("b32", batch_size=32), p99_ms=120.0),
    ]
    found = largest_batch(cells, 100.0)
    assert found is not None
    assert found.spec.batch_size == 8
    assert largest_batch(cells, 39.0) is None


def test_no_load_helps_where_a_lone_request_takes_longer_than_the_limit() -> None:
    assert is_hopeless([closed(1, p99_ms=80.0)], 39.0)  # p50 is half of it
    assert not is_hopeless([closed(1, p99_ms=80.0)], 41.0)
    assert not is_hopeless([closed(16, p99_ms=80.0), result(p99_ms=80.0)], 39.0)
    assert not is_hopeless([closed(1, p99_ms=80.0, verdict=INVALID), closed(1, p99_ms=None)], 39.0)
    found = capacity(largest_batch_size=None, rate_per_s=None, rate_is_bound=False)
    assert "half the requests of a lone user take longer" in sentences(Search(found, CELLS, None))[1]


def test_the_knee_is_the_fewest_users_with_95_percent_of_the_best_throughput() -> None:
    rates = {1: 40.0, 2: 78.0, 4: 96.0, 8: 100.0, 16: 99.0}
    cells = [closed(users, requests_per_s=rate) for users, rate in rates.items()]
    found = knee([*cells, closed(32, requests_per_s=400.0, verdict=INVALID)])
    assert found is not None
    assert found.spec.workload.users == 4
    assert knee([closed(1, verdict=FAILED)]) is None


def capacity(**fields: object) -> Capacity:
    known = {
        "largest_batch_size": 8,
        "batch_size_cell": "batch-size_sentiment_b8_u1",
        "rate_per_s": 142.0,
        "rate_cell": "capacity_sentiment_b1_r142",
        "rate_is_bound": True,
    }
    return Capacity("sentiment", 500.0, 0.001, **{**known, **fields})  # type: ignore[arg-type]


CELLS = (result(p99_ms=231.4), opened(142.0, requests_per_s=141.0, p99_ms=480.0))


def test_a_found_capacity_in_words() -> None:
    search = Search(capacity(), CELLS, RateSearch(142.0, 149.0, is_bound=True, generator_bound=False))
    assert sentences(search) == (
        "Largest batch size with P99 <= 500 ms: 8 (P99 231 ms).",
        "Largest load: 142 requests/s at batch size 1 (P99 480 ms; 149 requests/s broke the limit).",
    )


def test_a_rate_that_the_generator_could_not_exceed_is_not_called_the_largest() -> None:
    found = capacity(rate_is_bound=False)
    search = Search(found, CELLS, RateSearch(142.0, None, is_bound=False, generator_bound=True))
    assert "at least 142 requests/s" in sentences(search)[1]
    assert "load generator was the bottleneck" in sentences(search)[1]


def test_nothing_within_the_limit_in_words() -> None:
    found = capacity(largest_batch_size=None, rate_per_s=None, rate_is_bound=False)
    search = Search(found, CELLS, RateSearch(None, 2.0, is_bound=False, generator_bound=False))
    assert sentences(search) == (
        "No batch size that was tried has P99 <= 500 ms.",
        "No load that was tried is within the limit.",
    )
