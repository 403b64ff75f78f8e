"""What samples say, and how surely: percentiles and rates with 95 % confidence intervals.

Owns the formulas; knows nothing of models, servers or verdicts.

Percentiles are order statistics, by nearest rank: the smallest latency that at least that share of the requests did
not exceed. Their intervals assume no distribution: the number of requests below the true percentile is binomial, so two
other order statistics enclose it with at least 95 % (Hahn and Meeker, *Statistical Intervals*, Wiley 1991, chapter 5;
David and Nagaraja, *Order Statistics*, 3rd edition, Wiley 2003, chapter 7). Either end is missed with at most 2.5 %, so
that each can be read alone; an end whose rank does not exist is None.

Both assume that requests are independent. Requests of a loaded server are not: those that wait in one queue are late
together. The intervals of percentiles are therefore optimistic: they say what chance explains within this window, not
what another hour would show. The interval of the throughput is more honest: it is taken from the means of ten slices of
the window (batch means: Law, *Simulation Modeling and Analysis*, chapter 9), in which most of that dependence averages
out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from loadtest.cell import ClientSide, Estimate
from loadtest.samples import ANSWERED, Samples

TAIL = 0.025  # of a two-sided 95 % interval
NORMAL_QUANTILE = 1.959964  # 97.5 % of the standard normal distribution
SHARES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

SLICES = 10
STUDENT_T = 2.262157  # 97.5 % of Student's t with SLICES - 1 = 9 degrees of freedom


def percentile(latencies_ms: npt.ArrayLike, share: float) -> Estimate:
    """The nearest-rank percentile with its distribution-free interval.

    Args:
        latencies_ms: float[n], in any order, at least one.
        share: for example 0.99, between 0 and 1.

    Raises:
        ValueError: no latency, or a share outside of 0 to 1.
    """
    values = np.asarray(latencies_ms, dtype=np.float64).ravel()
    if not values.size:
        raise ValueError("a percentile of no latencies: expected at least one")
    low, high = interval_ranks(values.size, share)
    # The product is rounded before it is raised to a whole number: 0.95 x 20 is 19, not 19.000000000000004.
    rank = min(values.size, max(1, math.ceil(round(values.size * share, 9))))
    ordered = np.partition(values, [one - 1 for one in (rank, low, high) if one is not None])

    def at(rank: int | None) -> float | None:
        return None if rank is None else float(ordered[rank - 1])

    return Estimate(float(ordered[rank - 1]), at(low), at(high))


def interval_ranks(count: int, share: float) -> tuple[int | None, int | None]:
    """Ranks, from 1 to ``count``, of the order statistics that enclose the percentile; None where there is none.

    The lower is the largest l with P(Bin(count, share) < l) <= 2.5 %, the upper the smallest u with
    P(Bin(count, share) >= u) <= 2.5 %; so P(l <= Bin < u) >= 95 %.

    Raises:
        ValueError: a share outside of 0 to 1.
    """
    below = _largest_in_tail(count, share)
    above = _largest_in_tail(count, 1 - share)  # of the requests beyond the percentile: Bin(count, 1 - share)
    return (None if below is None else below + 1, None if above is None else count - above)


def smallest_sample(share: float) -> int:
    """How many requests it takes until both ends of a percentile's interval exist: 368 for 0.99.

    Raises:
        ValueError: a share outside of 0 to 1.
    """
    _check_share(share)
    return math.ceil(math.log(TAIL) / math.log(max(share, 1 - share)))


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"a percentile's share of {share!r}: expected more than 0 and less than 1")


def _largest_in_tail(count: int, probability: float) -> int | None:
    """The largest k with P(Bin(count, probability) <= k) <= TAIL; None if not even 0 is.

    Starts where the normal distribution puts it and goes on exactly from there, a few steps.
    """
    _check_share(probability)
    spread = math.sqrt(count * probability * (1 - probability))
    k = min(count, max(0, math.floor(count * probability - NORMAL_QUANTILE * spread)))
    tail = _lower_tail(count, k, probability)
    while tail > TAIL and k > 0:
        tail -= _point(count, k, probability)
        k -= 1
    if tail > TAIL:
        return None
    while k < count and (wider := tail + _point(count, k + 1, probability)) <= TAIL:
        tail, k = wider, k + 1
    return k


def _lower_tail(count: int, k: int, probability: float) -> float:
    """P(Bin(count, probability) <= k), summed from k downwards until the terms no longer matter."""
    term = _point(count, k, probability)
    terms = [term]
    odds = (1 - probability) / probability
    for j in range(k, 0, -1):
        term *= odds * j / (count - j + 1)
        terms.append(term)
        if term < 1e-18:
            break
    return math.fsum(terms)


def _point(count: int, k: int, probability: float) -> float:
    """P(Bin(count, probability) = k)."""
    return math.exp(
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(probability)
        + (count - k) * math.log1p(-probability)
    )


def rate(ends_s: npt.ArrayLike, duration_s: float) -> Estimate:
    """Events a second over a window, with an interval from the means of ten equal slices of it.

    Student's t over the slices; never narrower than one event more or fewer in the window, and never below 0. No
    interval with fewer events than slices.

    Args:
        ends_s: float[n], when they happened, in seconds from the start of the window.
        duration_s: the window; of no length, nothing happened in it.
    """
    if duration_s <= 0:
        return Estimate(0.0)
    counts, _ = np.histogram(np.asarray(ends_s, dtype=np.float64), bins=SLICES, range=(0.0, duration_s))
    total = int(counts.sum())
    value = total / duration_s
    if total < SLICES:
        return Estimate(value)
    deviation = float(np.std(counts, ddof=1)) * SLICES / duration_s
    half = max(STUDENT_T * deviation / math.sqrt(SLICES), 1 / duration_s)
    return Estimate(value, max(0.0, value - half), value + half)


def client_side(
    samples: Samples, duration_s: float, batch_size: int, failure_examples: Mapping[str, str]
) -> ClientSide:
    """What the users saw of one window.

    Args:
        samples: its requests.
        duration_s: the window.
        batch_size: texts or rows of a request.
        failure_examples: a message of each kind of failure.
    """
    latencies_ms = samples.latency_s[samples.kind == ANSWERED] * 1e3
    answered = bool(latencies_ms.size)
    requests_per_s = rate(samples.ends_s, duration_s)
    return ClientSide(
        duration_s=duration_s,
        requests=int(latencies_ms.size),
        failures=_failures(samples),
        failure_examples=dict(failure_examples),
        requests_per_s=requests_per_s,
        sentences_per_s=_times(requests_per_s, batch_size),
        latency_ms={name: percentile(latencies_ms, share) for name, share in SHARES.items() if answered},
        mean_latency_ms=float(latencies_ms.mean()) if answered else None,
        max_latency_ms=float(latencies_ms.max()) if answered else None,
    )


def _failures(samples: Samples) -> dict[str, int]:
    counts = np.bincount(samples.kind, minlength=1 + len(samples.failure_kinds))[1:]
    return {kind: int(count) for kind, count in zip(samples.failure_kinds, counts, strict=True) if count}


def _times(estimate: Estimate, factor: float) -> Estimate:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Estimate(estimate.value * factor, scaled(estimate.low), scaled(estimate.high))
