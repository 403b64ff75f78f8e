"""Executions: every text once, within the budgets, and cheaper than the simple ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.bert_text.layout import CALL_SHARE_OF_BUDGET, lay_out

LENGTHS = st.lists(st.integers(1, 600), max_size=64)
BUDGETS = st.integers(1, 2048)


def cost(executions: list[list[int]], lengths: list[int], max_tokens: int) -> float:
    padded = sum(len(execution) * max(lengths[index] for index in execution) for execution in executions)
    return padded + len(executions) * max_tokens * CALL_SHARE_OF_BUDGET


@given(LENGTHS, BUDGETS, st.integers(1, 64))
def test_every_text_once_and_within_the_budgets(lengths: list[int], max_tokens: int, max_rows: int) -> None:
    executions = lay_out(lengths, max_tokens, max_rows)
    assert sorted(index for execution in executions for index in execution) == list(range(len(lengths)))
    for execution in executions:
        longest = max(lengths[index] for index in execution)
        assert len(execution) <= max_rows
        assert len(execution) == 1 or len(execution) * longest <= max_tokens


@given(LENGTHS, BUDGETS)
def test_never_dearer_than_one_by_one_or_greedy(lengths: list[int], max_tokens: int) -> None:
    chosen = cost(lay_out(lengths, max_tokens, 64), lengths, max_tokens)
    assert chosen <= cost([[index] for index in range(len(lengths))], lengths, max_tokens) + 1e-6
    assert chosen <= cost(greedy(lengths, max_tokens), lengths, max_tokens) + 1e-6


def greedy(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Sorted, each execution filled until the budget is full."""
    executions: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if executions and (len(executions[-1]) + 1) * lengths[index] <= max_tokens:
            executions[-1].append(index)
        else:
            executions.append([index])
    return executions


def test_equal_short_texts_share_one_execution() -> None:
    assert lay_out([8] * 16, 512, 64) == [list(range(15, -1, -1))]


def test_a_long_text_does_not_pad_the_short_ones() -> None:
    executions = lay_out([8, 400, 9, 7], 4096, 64)
    assert [1] in executions
    assert len(executions) == 2


def test_long_texts_come_first() -> None:
    lengths = [5, 300, 20, 500, 100]
    firsts = [lengths[execution[0]] for execution in lay_out(lengths, 512, 64)]
    assert firsts == sorted(firsts, reverse=True)


def test_nothing_to_lay_out() -> None:
    assert lay_out([], 512, 64) == []
