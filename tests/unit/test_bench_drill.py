"""What the drills compute from what they saw; the drills themselves are run by hand (`make drill`)."""

from __future__ import annotations

import asyncio
import math

import pytest

from bench.drill.arrivals import ANSWERED, Outcome, Outcomes, latency_ms, poisson
from bench.drill.findings import Finding, at_least, at_most, none_of, table
from bench.drill.resources import Resources
from bench.drill.soak import Sample, slope_per_hour
from bert_triton_client import Classification, OverloadedError

ANSWER = Classification("positive", 0.9, (0.1, 0.9))


def test_arrivals_do_not_wait_for_answers_and_every_request_is_accounted_for() -> None:
    under_way = most = 0

    async def ask(text: str) -> Classification:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        if text == "refused":
            raise OverloadedError("the queue is full")
        return ANSWER

    outcomes = asyncio.run(poisson(ask, ["taken", "refused"], per_s=400, seconds=0.5))
    assert most > 3
    assert len(outcomes.all) == len(outcomes.answered) + len(outcomes.of("OverloadedError"))
    assert abs(len(outcomes.answered) - len(outcomes.of("OverloadedError"))) <= 1
    assert outcomes.messages() == f"the queue is full ({len(outcomes.of('OverloadedError'))})"
    assert all(outcome.latency_ms >= 50 + outcome.late_ms for outcome in outcomes.all)
    assert all(0 <= outcome.due_s <= 0.5 for outcome in outcomes.all)


def test_latency_counts_from_when_a_request_was_due_or_was_sent() -> None:
    outcomes = [Outcome(due_s=0, latency_ms=30.0, late_ms=20.0, kind=ANSWERED)]
    assert latency_ms(outcomes, 0.99) == 30
    assert latency_ms(outcomes, 0.99, since_sent=True) == 10
    assert math.isnan(latency_ms([], 0.5))
    assert Outcomes(outcomes, elapsed_s=2.0).per_s == 0.5


def test_the_slope_of_memory_is_a_line_through_all_samples() -> None:
    samples = [Sample(at_s, Resources(1000 + at_s / 60, 3, 80)) for at_s in range(0, 600, 5)]
    assert slope_per_hour(samples) == pytest.approx(60)


@pytest.mark.parametrize(
    ("finding", "met"),
    [
        (at_most("p99", 50, 50.0, "ms"), True),
        (at_most("p99", 50, 50.1, "ms"), False),
        (at_most("p99", 50, math.nan, "ms"), False),
        (at_least("share", 0.9, 0.9, ""), True),
        (at_least("share", 0.9, 0.89, ""), False),
        (none_of("failed", 0, 10), True),
        (none_of("failed", 1, 10), False),
    ],
)
def test_a_finding_says_whether_it_is_as_wanted(finding: Finding, met: bool) -> None:
    assert finding.met is met
    assert table([finding]).endswith("| yes |" if met else "| no |")
