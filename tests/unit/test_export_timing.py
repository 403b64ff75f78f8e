"""Timing side by side: who runs what how often; the clock itself is not tested."""

from __future__ import annotations

import numpy as np
import pytest

from export import timing
from export.evaluation import Classifier, Logits, Tensors, TokenisedTexts
from export.timing import MAX_ROUNDS, MIN_ROUNDS, TEXTS, race, workload

INPUTS = ("input_ids", "attention_mask")


def texts(count: int) -> TokenisedTexts:
    return TokenisedTexts(tuple((7,) * (1 + index % 40) for index in range(count)), INPUTS, 0)


def recorder(calls: list[str], name: str) -> Classifier:
    def classify(tensors: Tensors) -> Logits:
        calls.append(f"{name} {len(tensors['input_ids'])}")
        return np.zeros((len(tensors["input_ids"]), 2), dtype=np.float32)

    return classify


def test_workload_is_laid_out_within_the_budget() -> None:
    work = workload(texts(200), 128)
    assert work.texts == TEXTS
    assert all(tensors["input_ids"].size <= 128 for tensors in work.executions)
    assert sum(len(tensors["input_ids"]) for tensors in work.executions) == TEXTS
    assert work.tokens == sum(int(tensors["attention_mask"].sum()) for tensors in work.executions)
    lengths = sorted(int(row.sum()) for tensors in work.executions for row in tensors["attention_mask"])
    assert work.lone_tokens == lengths[len(lengths) // 2]
    assert work.lone["input_ids"].shape == (1, work.lone_tokens)


def test_workload_of_fewer_texts_is_all_of_them() -> None:
    assert workload(texts(5), 512).texts == 5


def test_contenders_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round that does not count each, then whole rounds: A B A B."""
    monkeypatch.setattr(timing.time, "perf_counter", iter(range(10_000)).__next__)
    calls: list[str] = []
    work = workload(texts(3), 512)
    # Each execution "takes" a second: the budget is spent after the least number of rounds.
    timings = race({"a": recorder(calls, "a"), "b": recorder(calls, "b")}, work, budget_s=2.0)
    one = ["a 3", "a 1", "b 3", "b 1"]
    assert calls == one * (1 + MIN_ROUNDS)
    assert {name: found.rounds for name, found in timings.items()} == {"a": MIN_ROUNDS, "b": MIN_ROUNDS}
    assert timings["a"].texts_per_s == 3.0
    assert timings["a"].texts_per_s_range == (3.0, 3.0)
    assert timings["a"].one_text_ms == 1000.0


def test_a_slow_contender_does_not_keep_the_others_from_their_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def slow(tensors: Tensors) -> Logits:
        now[0] += 5.0
        return np.zeros((len(tensors["input_ids"]), 2), dtype=np.float32)

    def quick(tensors: Tensors) -> Logits:
        now[0] += 0.01
        return np.zeros((len(tensors["input_ids"]), 2), dtype=np.float32)

    timings = race({"slow": slow, "quick": quick}, workload(texts(3), 512))
    assert (timings["slow"].rounds, timings["quick"].rounds) == (MIN_ROUNDS, MAX_ROUNDS)
    assert timings["quick"].texts_per_s == pytest.approx(300.0)
