"""What samples say: percentiles, rates, and their intervals against brute force, published values and simulation."""

from __future__ import annotations

import math
import time
from dataclasses import astuple
from itertools import accumulate, pairwise

import numpy as np
import pytest

from loadtest import statistics
from loadtest.cell import Estimate
from loadtest.samples import Samples


def chance(count: int, share: float, low: int, high: int) -> float:
    """P(low <= Bin(count, share) < high), term by term."""
    return math.fsum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(low, high))


def samples(
    latency_s: list[float],
    kind: list[int] | None = None,
    kinds: tuple[str, ...] = (),
    ends_s: list[float] | None = None,
) -> Samples:
    return Samples(
        begin_s=np.zeros(len(latency_s)),
        latency_s=np.array(latency_s, dtype=np.float64),
        kind=np.array(kind or [0] * len(latency_s), dtype=np.uint8),
        failure_kinds=kinds,
        ends_s=np.array(ends_s if ends_s is not None else [], dtype=np.float64),
    )


# --- Percentiles ---


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [(1, 0.99, 1), (2, 0.5, 1), (3, 0.5, 2), (20, 0.95, 19), (100, 0.99, 99), (101, 0.99, 100), (1000, 0.999, 999)],
)
def test_a_percentile_is_the_nearest_rank(count: int, share: float, rank: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert statistics.percentile(values, share).value == rank


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 10, 28, 29, 59, 72, 73, 100, 299, 367, 368, 369, 500])
def test_the_ranks_are_those_of_brute_force(count: int, share: float) -> None:
    below = list(accumulate(chance(count, share, k, k + 1) for k in range(count)))  # P(Bin < 1), P(Bin < 2), …
    beyond = list(accumulate(chance(count, share, k, k + 1) for k in range(count, 0, -1)))  # P(Bin >= count), …
    low = max((rank for rank in range(1, count + 1) if below[rank - 1] <= 0.025), default=None)
    high = min((rank for rank in range(1, count + 1) if beyond[count - rank] <= 0.025), default=None)
    assert statistics.interval_ranks(count, share) == (low, high)
    if low is not None and high is not None:
        assert low < high
        assert chance(count, share, low, high) >= 0.95


def test_the_ranks_of_the_median_are_the_published_ones() -> None:
    # Tables of the sign test's interval for the median, for example Conover, Practical Nonparametric Statistics.
    assert [statistics.interval_ranks(count, 0.5) for count in (6, 10, 20, 25)] == [(1, 6), (2, 9), (6, 15), (8, 18)]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_million_requests_are_exact_and_quick(share: float) -> None:
    count = 1_000_000
    started = time.process_time()
    low, high = statistics.interval_ranks(count, share)
    assert time.process_time() - started < 2.0
    assert low is not None
    assert high is not None
    spread = math.sqrt(count * share * (1 - share))
    # The normal approximation with its continuity correction is good to a few ranks here.
    assert low == pytest.approx(count * share - 1.96 * spread, abs=3)
    assert high == pytest.approx(count * share + 1.96 * spread, abs=3)


def test_ends_without_a_rank_are_none() -> None:
    hundred = statistics.percentile(np.arange(1.0, 101.0), 0.99)
    assert hundred.value == 99
    assert hundred.low is not None
    assert hundred.high is None
    assert statistics.percentile([7.0], 0.5) == Estimate(7.0, None, None)
    assert statistics.percentile(np.arange(1.0, 101.0), 0.01).low is None


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.01, 368)])
def test_the_smallest_sample_is_the_first_with_both_ends(share: float, count: int) -> None:
    assert statistics.smallest_sample(share) == count
    assert None not in statistics.interval_ranks(count, share)
    assert None in statistics.interval_ranks(count - 1, share)


@pytest.mark.parametrize(("count", "share"), [(400, 0.99), (400, 0.5), (100, 0.9)])
def test_intervals_cover_the_truth_as_often_as_they_say(count: int, share: float) -> None:
    # 4,000 samples of an exponential distribution, whose percentiles are known. The chance of coverage is at least
    # 95 %; the standard error of the observed share is 0.35 %, so four of them are allowed.
    rng = np.random.default_rng(20_240_501)
    truth = -math.log(1 - share)
    low, high = statistics.interval_ranks(count, share)
    assert low is not None
    assert high is not None
    ordered = np.sort(rng.exponential(size=(4000, count)), axis=1)
    covered = np.mean((ordered[:, low - 1] <= truth) & (truth <= ordered[:, high - 1]))
    assert covered == pytest.approx(chance(count, share, low, high), abs=0.014)
    assert 0.95 <= chance(count, share, low, high) < 0.99
    one = statistics.percentile(ordered[0], share)
    assert (one.low, one.high) == (ordered[0, low - 1], ordered[0, high - 1])


@pytest.mark.parametrize("share", [0.0, 1.0, 99, -0.5, math.nan])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="more than 0 and less than 1"):
        statistics.percentile([1.0, 2.0], share)
    with pytest.raises(ValueError, match="more than 0 and less than 1"):
        statistics.smallest_sample(share)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        statistics.percentile([], 0.5)


# --- Rates ---


def test_a_rate_has_students_interval_over_ten_slices() -> None:
    counts = [9, 11, 10, 8, 12, 10, 9, 11, 10, 10]  # mean 10, variance 12 / 9 over slices of 2 s
    ends_s = [2 * i + 2 * (j + 0.5) / count for i, count in enumerate(counts) for j in range(count)]
    half = 2.262157 * math.sqrt(12 / 9) / 2 / math.sqrt(10)
    assert astuple(statistics.rate(ends_s, 20.0)) == pytest.approx((5.0, 5 - half, 5 + half))


def test_a_rate_is_never_surer_than_one_event() -> None:
    assert statistics.rate([i + 0.5 for i in range(10)], 10.0) == Estimate(1.0, 0.9, 1.1)


def test_a_rate_of_few_events_has_no_interval_and_of_none_is_zero() -> None:
    assert statistics.rate([0.5] * 9, 10.0) == Estimate(0.9)
    assert statistics.rate([], 10.0) == Estimate(0.0)
    assert statistics.rate([], 0.0) == Estimate(0.0)


def test_a_rate_in_one_burst_reaches_down_to_zero() -> None:
    found = statistics.rate([0.1] * 100, 10.0)
    assert found.low == 0.0
    assert found.high is not None
    assert found.high > 30


def test_rates_of_independent_events_are_covered() -> None:
    # A Poisson process of 50 a second: batch means of 10 slices cover 95 %, here 2,000 windows, four standard errors.
    rng = np.random.default_rng(7)
    found = [statistics.rate(rng.uniform(0, 10, rng.poisson(500)), 10.0) for _ in range(2000)]
    covered = np.mean([one.low is not None and one.high is not None and one.low <= 50 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.02)


# --- All of it ---


def test_only_good_answers_have_latencies_and_failures_have_kinds() -> None:
    one = statistics.client_side(
        samples(
            [0.010, 30.0, 0.020, 0.001, 0.030],
            [0, 1, 0, 3, 0],
            ("DeadlineExceededError", "ServerFaultError", "OverloadedError"),
            [0.5 * i for i in range(20)],
        ),
        10.0,
        8,
        {"OverloadedError": "queue full"},
    )
    assert one.requests == 3
    assert one.failures == {"DeadlineExceededError": 1, "OverloadedError": 1}
    assert one.failed == 2
    assert one.error_rate == 0.4
    assert one.failure_examples == {"OverloadedError": "queue full"}
    assert one.latency_ms["p50"].value == pytest.approx(20.0)
    assert one.latency_ms["p99"].value == pytest.approx(30.0)
    assert list(one.latency_ms) == ["p50", "p90", "p95", "p99"]
    assert one.mean_latency_ms == pytest.approx(20.0)
    assert one.max_latency_ms == pytest.approx(30.0)
    assert one.requests_per_s == Estimate(2.0, 1.9, 2.1)
    assert astuple(one.sentences_per_s) == pytest.approx((16.0, 15.2, 16.8))


def test_percentiles_are_in_order_with_their_intervals() -> None:
    latencies = np.random.default_rng(3).lognormal(size=1000)
    found = statistics.client_side(samples(list(latencies)), 10.0, 1, {}).latency_ms
    for lower, upper in pairwise(found.values()):
        assert lower.value < upper.value
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


@pytest.mark.parametrize("duration_s", [10.0, 0.0])
def test_nothing_measured_is_zeros(duration_s: float) -> None:
    one = statistics.client_side(samples([]), duration_s, 4, {})
    assert (one.requests, one.failures, one.latency_ms, one.error_rate) == (0, {}, {}, 0.0)
    assert (one.mean_latency_ms, one.max_latency_ms) == (None, None)
    assert one.requests_per_s == one.sentences_per_s == Estimate(0.0)


def test_nothing_but_failures_has_no_latency() -> None:
    one = statistics.client_side(samples([1.0, 1.0], [1, 1], ("ServerFaultError",)), 10.0, 1, {})
    assert (one.requests, one.latency_ms, one.error_rate) == (0, {}, 1.0)
