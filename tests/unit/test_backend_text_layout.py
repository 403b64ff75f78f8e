"""The next execution: the oldest text, and those that share a call with it cheaply."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bert_text.layout import PADDED_TOKENS_PER_BUDGET, Budget, choose

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=64)
BUDGETS = st.builds(Budget, st.integers(1, 2048), st.integers(1, 64), st.booleans())


def cost(lengths: list[int], budget: Budget) -> float:
    """Of one execution of these texts, beside the tokens that have to be computed in any case."""
    return budget.call_cost + len(lengths) * budget.row_costs([max(lengths)])[0]


@given(LENGTHS, BUDGETS)
def test_the_oldest_is_in_and_the_budget_is_kept(lengths: list[int], budget: Budget) -> None:
    chosen = choose(lengths, budget)
    own = [lengths[index] for index in chosen]
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen) <= budget.max_rows
    padded = len(own) * max(own)
    if len(chosen) > 1:
        assert (sum(own) if budget.packed else padded) <= budget.max_tokens
        assert padded <= PADDED_TOKENS_PER_BUDGET * budget.max_tokens


@given(LENGTHS, BUDGETS)
def test_no_cut_in_two_would_be_cheaper(lengths: list[int], budget: Budget) -> None:
    own = sorted(lengths[index] for index in choose(lengths, budget))
    whole = cost(own, budget)
    for cut in range(1, len(own)):
        assert whole <= cost(own[:cut], budget) + cost(own[cut:], budget) + 1e-6


@given(LENGTHS, BUDGETS, st.integers(2, 4))
def test_idle_instances_get_their_share_but_none_less_than_a_call_costs(
    lengths: list[int], budget: Budget, idle: int
) -> None:
    chosen = choose(lengths, budget, idle)
    assert 0 in chosen
    if len(chosen) > 1:
        tokens = sum(lengths[index] for index in chosen)
        assert tokens <= max(math.ceil(sum(lengths) / idle), math.ceil(budget.call_cost))


@given(LENGTHS, BUDGETS)
def test_it_empties_the_queue_never_dearer_than_one_by_one(lengths: list[int], budget: Budget) -> None:
    waiting = list(lengths)
    total = 0.0
    while waiting:
        chosen = set(choose(waiting, budget))
        total += cost([waiting[index] for index in chosen], budget)
        waiting = [length for index, length in enumerate(waiting) if index not in chosen]
    assert total <= sum(cost([length], budget) for length in lengths) + 1e-6


@pytest.mark.parametrize("packed", [False, True])
def test_equal_short_texts_share_one_execution_oldest_first(packed: bool) -> None:
    assert choose([8] * 70, Budget(512, 64, packed)) == list(range(64))


@pytest.mark.parametrize("packed", [False, True])
def test_a_long_text_and_short_ones_do_not_pad_each_other(packed: bool) -> None:
    budget = Budget(4096, 64, packed)
    lengths = [10, *[1000, 11] * 12]
    assert {lengths[index] for index in choose(lengths, budget)} == {10, 11}
    lengths[0] = 990
    assert {lengths[index] for index in choose(lengths, budget)} <= {990, 1000}


def test_mixed_lengths_share_a_call_only_where_padding_is_dropped() -> None:
    lengths = [40, 34, 46, 37, 43, 35, 45, 39]
    assert len(choose(lengths, Budget(512, 64, packed=True))) == 8
    assert len(choose(lengths, Budget(512, 64))) < 8


def test_an_over_long_text_goes_alone() -> None:
    assert choose([600, 600, 5], Budget(512, 64)) == [0]
    assert choose([600, 600, 5], Budget(512, 64, packed=True)) == [0]
