"""Which texts go into which call of the tensor model.

Every row of a call is padded to the longest, so texts are sorted by length and cut where that costs
least. A cost of an execution is its padded tokens plus what a call costs whatever is in it; the
cheapest cut of the sorted texts is found by dynamic programming (at most ``max_batch_size`` texts, so
it takes well under a millisecond where the calls themselves take tens).
"""

from __future__ import annotations

from collections.abc import Sequence

# What a call costs beside its tokens, as a share of the token budget. BERT-base INT8 on a CPU takes
# 10.5 ms for 1 x 32 tokens and 32 ms for 1 x 128: 0.22 ms a token and 3.4 ms a call, about 16 tokens
# of a budget of 512. On hardware that needs bigger calls the budget is set bigger, and this with it.
CALL_SHARE_OF_BUDGET = 1 / 32


def lay_out(lengths: Sequence[int], max_tokens: int, max_rows: int) -> list[list[int]]:
    """Group texts into executions.

    Args:
        lengths: tokens of each text.
        max_tokens: most padded tokens of an execution; a single text that is longer has one to itself.
        max_rows: most texts of an execution.

    Returns:
        For each execution the indices of its texts, longest first, so that the long ones do not
        trail behind. Every index appears once.
    """
    if len(lengths) <= 1:
        return [[0]] if lengths else []
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    call_tokens = max_tokens * CALL_SHARE_OF_BUDGET
    # best[end]: the least cost of the first `end` texts in order; start[end]: where its last execution starts.
    best = [0.0] * (len(order) + 1)
    start = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        rows = max(1, min(max_rows, max_tokens // longest, end))
        best[end], start[end] = min(
            (best[first] + (end - first) * longest + call_tokens, first) for first in range(end - rows, end)
        )
    executions = []
    end = len(order)
    while end > 0:
        executions.append(order[start[end] : end][::-1])
        end = start[end]
    return executions
