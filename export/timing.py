"""How fast the graphs of an export are: texts of mixed lengths, as the text model would lay them out, side by side.

Every round runs each contender once over everything, so that what else the machine does meets all of them alike;
reported are medians over the rounds, and the slowest and the fastest round. One more round before that, which does not
count, lets engines compile what they compile at the first sight of a shape.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from export.evaluation import Classifier, Tensors, TokenisedTexts

TEXTS = 64
# Every contender has at least the first number of rounds, and no further one after it has had its time.
MIN_ROUNDS, MAX_ROUNDS = 3, 9
BUDGET_S = 2.0

Contender = TypeVar("Contender", bound=Hashable)


@dataclass(frozen=True)
class Workload:
    """What is timed.

    Attributes:
        executions: batches of texts of mixed lengths, each within the token budget.
        texts: how many texts are in them.
        tokens: how many tokens, padding not counted.
        lone: one text of median length.
        lone_tokens: how many tokens that one has.
    """

    executions: tuple[Tensors, ...]
    texts: int
    tokens: int
    lone: Tensors
    lone_tokens: int


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender.

    Attributes:
        texts_per_s: of mixed lengths; the median round.
        texts_per_s_range: of the slowest and of the fastest round.
        one_text_ms: the median of one text of median length, run alone, in milliseconds.
        rounds: how many there were.
    """

    texts_per_s: float
    texts_per_s_range: tuple[float, float]
    one_text_ms: float
    rounds: int


def workload(texts: TokenisedTexts, token_budget: int, *, seed: int = 0) -> Workload:
    """`TEXTS` of ``texts``, drawn at random and laid out by length in batches of at most ``token_budget`` tokens."""
    rows = np.random.default_rng(seed).permutation(len(texts))[:TEXTS]
    some = TokenisedTexts(tuple(texts.ids[row] for row in rows), texts.inputs, texts.pad_token_id)
    by_length = sorted(range(len(some)), key=lambda row: len(some.ids[row]))
    median = by_length[len(by_length) // 2]
    return Workload(
        executions=tuple(some.tensors(batch) for batch in some.by_length(token_budget)),
        texts=len(some),
        tokens=sum(len(ids) for ids in some.ids),
        lone=some.tensors([median]),
        lone_tokens=len(some.ids[median]),
    )


def race(
    contenders: Mapping[Contender, Classifier], work: Workload, *, calls: int = 1, budget_s: float = BUDGET_S
) -> dict[Contender, Timing]:
    """Times every contender on ``work``, in turn.

    Args:
        contenders: classifiers, under whatever names the result should have.
        work: what to run.
        calls: executions at once, as there are instances; the lone text is alone.
        budget_s: about how many seconds one contender may take; slow ones take more for `MIN_ROUNDS`.
    """
    batches: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    lone: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    with ThreadPoolExecutor(calls) as pool:
        for classify in contenders.values():
            _seconds(pool, classify, (*work.executions, work.lone))
        for _ in range(MAX_ROUNDS):
            for contender, classify in contenders.items():
                done = batches[contender]
                if len(done) < MIN_ROUNDS or sum(done) < budget_s:
                    done.append(_seconds(pool, classify, work.executions))
                    lone[contender].append(_seconds(pool, classify, (work.lone,)))
    return {contender: _timing(work.texts, batches[contender], lone[contender]) for contender in contenders}


def _seconds(pool: Executor, classify: Classifier, executions: tuple[Tensors, ...]) -> float:
    start = time.perf_counter()
    list(pool.map(classify, executions))
    return time.perf_counter() - start


def _timing(texts: int, batches: list[float], lone: list[float]) -> Timing:
    return Timing(
        texts_per_s=texts / float(np.median(batches)),
        texts_per_s_range=(texts / max(batches), texts / min(batches)),
        one_text_ms=float(np.median(lone)) * 1e3,
        rounds=len(batches),
    )
