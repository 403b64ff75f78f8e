"""The benchmark's arithmetic: medians, ratios within a round, verdicts on a row."""

from __future__ import annotations

import pytest

from bench.compare.measure import Block
from bench.compare.score import Spread, points_lost, ratio, share, verdict


def block(row: str, number: int, per_s: float) -> Block:
    return Block(row, number, per_s, 1.0, 2.0, 10, 0, "", 1.0, 0.0, 0.0, 0.0)


def test_a_spread_is_the_median_and_the_range() -> None:
    spread = Spread.of([3.0, None, 1.0, 10.0])
    assert spread == Spread(3.0, 1.0, 10.0)
    assert f"{spread:.1f}" == "3.0 (1.0-10.0)"
    assert f"{Spread(2.0, 2.0, 2.0):.0f}" == "2"
    assert Spread.of([None]) is None


def test_a_ratio_is_taken_within_a_round() -> None:
    # The machine is twice as fast in the second round: that must not show.
    blocks = [block("a", 0, 10), block("b", 0, 5), block("b", 1, 10), block("a", 1, 20), block("a", 2, 90)]
    assert ratio(blocks, "a", "b") == Spread(2.0, 2.0, 2.0)
    assert ratio(blocks, "a", "c") is None


def test_a_round_without_an_answer_has_no_ratio() -> None:
    assert ratio([block("a", 0, 10), block("b", 0, 0.0)], "a", "b") is None


def test_labels_are_compared_by_the_index_of_their_text() -> None:
    assert share([(1, "y"), (0, "x"), (1, "x")], ["x", "y"]) == pytest.approx(2 / 3)
    assert share([], ["x"]) is None


def test_accuracy_is_compared_on_the_texts_that_both_answered() -> None:
    people = ["x", "x", "x", "y"]
    fp32 = [(0, "x"), (1, "x"), (2, "x"), (3, "x")]
    int8 = [(0, "x"), (1, "y")]
    assert points_lost(int8, fp32, people) == 50.0
    assert points_lost([], fp32, people) is None


@pytest.mark.parametrize(
    ("precision", "equal", "trained", "begins"),
    [
        ("fp32", 1.0, True, ""),
        ("fp32", 0.998, True, "doubtful"),
        ("fp32", 0.89, False, "invalid"),
        ("int8", 0.98, True, ""),
        ("int8", 0.92, True, ""),
        ("int8", 0.89, True, "invalid"),
        ("int8", 0.50, False, ""),
    ],
)
def test_wrong_answers_mark_a_row(precision: str, equal: float, trained: bool, begins: str) -> None:
    found = verdict(answered=100, failed=0, failure="", precision=precision, equal=equal, trained=trained)
    assert found.split(":")[0] == begins


def test_failed_requests_mark_a_row_with_their_message() -> None:
    found = verdict(answered=90, failed=10, failure="503 full", precision="fp32", equal=1.0, trained=True)
    assert found == "failed: 10 of 100 texts: 503 full"
    assert not verdict(answered=999, failed=1, failure="x", precision="fp32", equal=1.0, trained=True)
