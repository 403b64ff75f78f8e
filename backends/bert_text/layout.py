"""Which of the waiting texts go into the next call of the tensor model.

The oldest always does. The others are those nearest to it in length, as long as they fit the budget (and a share of it,
where several instances of the tensor model wait for work) and as long as one call for all is cheaper than two: an
execution that could be cut in two, sorted by length, such that the padding saved is worth more than a second call, is
not formed. Costs are counted in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What a call costs beside its tokens, as a share of the token budget. BERT-base INT8 on 2 cores takes 6.5 ms a call and
# 0.28 ms a token: 23 tokens, of a budget of 512. On hardware that needs bigger calls the budget is set bigger, and this
# with it.
CALL_SHARE_OF_BUDGET = 1 / 22

# What a row costs that is padded to s tokens, in a graph that drops the padding: it is laid out, gathered and
# transposed around attention, which has s x s pairs of tokens. In units of what a token costs in all other layers.
# BERT-base INT8 in OpenVINO: 8 texts of 32 tokens took 1.4, 1.6, 2.0 and 3.0 times their time when padded to 64, 96,
# 128 and 256, 16 of 16 tokens 1.1 and 1.5 times when padded to 32 and 64: a place is 0.1 to 0.4 of a token.
TOKENS_PER_PADDED_PLACE = 0.25
TOKENS_PER_ATTENTION_PAIR = 1 / 1500

# A graph that drops the padding still lays rows out padded around attention: that memory is bounded as well.
PADDED_TOKENS_PER_BUDGET = 4


@dataclass(frozen=True)
class Budget:
    """Bounds of an execution.

    Attributes:
        max_tokens: most tokens; padding counts only where it is computed. A single longer text has a call to itself.
        max_rows: most texts.
        packed: whether the tensor model drops the padding before it computes.
    """

    max_tokens: int
    max_rows: int
    packed: bool = False

    def fits(self, rows: int, tokens: int, longest: int) -> bool:
        """Whether so many rows and tokens may share a call."""
        padded = rows * longest
        if rows > self.max_rows:
            return False
        if self.packed:
            return tokens <= self.max_tokens and padded <= PADDED_TOKENS_PER_BUDGET * self.max_tokens
        return padded <= self.max_tokens

    def row_costs(self, lengths: Sequence[int]) -> np.ndarray:
        """float64[texts]: what a row costs when it is padded to each of ``lengths``, in tokens."""
        padded = np.asarray(lengths, dtype=np.float64)
        return padded * (TOKENS_PER_PADDED_PLACE + padded * TOKENS_PER_ATTENTION_PAIR) if self.packed else padded

    @property
    def call_cost(self) -> float:
        """What a call costs beside its rows, in tokens."""
        return self.max_tokens * CALL_SHARE_OF_BUDGET

    def share(self, tokens: int, idle: int) -> int:
        """Most tokens of the next execution of ``tokens`` that wait, while ``idle`` instances have nothing to compute.

        An instance that idles is worth more than a full execution, as long as its share is worth a call.
        """
        return max(math.ceil(tokens / max(1, idle)), math.ceil(self.call_cost))


def choose(lengths: Sequence[int], budget: Budget, idle: int = 1) -> list[int]:
    """The texts of the next execution.

    Args:
        lengths: tokens of each waiting text, in order of arrival; at least one.
        budget: what an execution may hold.
        idle: instances of the tensor model that have nothing to compute.

    Returns:
        Indices into ``lengths``, the shortest text first; 0, the oldest text, is among them.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # stable: the oldest first among equals
    costs = budget.row_costs([lengths[index] for index in order])
    first = last = order.index(0)
    tokens, most_tokens = lengths[0], budget.share(sum(lengths), idle)
    longer, shorter = True, True  # whether the window may still grow there: what did not fit never will
    while True:
        longer = longer and last + 1 < len(order)
        shorter = shorter and first > 0
        if not longer and not shorter:
            return order[first : last + 1]
        up = longer and (not shorter or costs[last + 1] - costs[last] <= costs[first] - costs[first - 1])
        low, high = (first, last + 1) if up else (first - 1, last)
        added = lengths[order[high if up else low]]
        fits = tokens + added <= most_tokens and budget.fits(high - low + 1, tokens + added, lengths[order[high]])
        if fits and _worth_one_call(costs[low : high + 1], budget.call_cost):
            first, last, tokens = low, high, tokens + added
        elif up:
            longer = False
        else:
            shorter = False


def _worth_one_call(costs: np.ndarray, call_cost: float) -> bool:
    """Whether no cut of these rows, sorted, saves more padding than a second call costs."""
    return bool(((costs[-1] - costs) * np.arange(1, len(costs) + 1)).max() <= call_cost)
