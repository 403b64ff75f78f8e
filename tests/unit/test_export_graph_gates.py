"""The gates judge right at their limits, and say what they measured."""

from __future__ import annotations

import numpy as np
import pytest

from export.calibration import Candidate, best
from export.errors import GateError
from export.evaluation import Logits, Tensors, TokenisedTexts, pad, predict
from export.gates import (
    ALONE_TEXTS,
    LIMITS,
    error_of,
    judge_invariance,
    judge_labelled,
    judge_logits,
    not_run,
)
from export.shapes import BATCH_SIZES, awkward_shapes, token_stream

INPUTS = ("input_ids", "attention_mask")


def classifier(tensors: Tensors) -> Logits:
    """Logits of the real tokens alone."""
    total = (tensors["input_ids"] * tensors["attention_mask"]).sum(axis=1) % 7 - 3.5
    return np.stack([-total, total], axis=1).astype(np.float32)


def texts(count: int) -> TokenisedTexts:
    generator = np.random.default_rng(0)
    return TokenisedTexts(
        tuple(tuple(generator.integers(1, 50, size=size).tolist()) for size in generator.integers(1, 40, size=count)),
        INPUTS,
        0,
    )


def logits(labels: list[int]) -> Logits:
    return np.eye(2, dtype=np.float32)[labels]


def test_awkward_shapes_have_every_size_and_mixed_padding() -> None:
    shapes = awkward_shapes(classifier, list(range(1, 100)), inputs=INPUTS, pad_token_id=0, max_length=64)
    ordinary = [tensors for tensors, kind in zip(shapes.tensors, shapes.kinds, strict=True) if not kind]
    assert [tensors["input_ids"].shape for tensors in ordinary] == [
        (batch_size, length) for length in (1, 8, 33, 64) for batch_size in BATCH_SIZES
    ]
    assert ordinary[-1]["attention_mask"].sum(axis=1).tolist() == [64, 54, 44, 34, 24]
    assert all((tensors["input_ids"][tensors["attention_mask"] == 0] == 0).all() for tensors in shapes.tensors)


def test_awkward_shapes_tell_a_graph_that_drops_padding() -> None:
    shapes = awkward_shapes(classifier, list(range(1, 100)), inputs=INPUTS, pad_token_id=0, max_length=20)
    masks = {kind: tensors["attention_mask"] for kind, tensors in zip(shapes.kinds, shapes.tensors, strict=True)}
    assert masks["64 texts"].shape == (64, 8)
    assert masks["equal lengths"].all()
    assert masks["different lengths"].sum(axis=1).tolist() == [1, 5, 9, 13, 17, 20, 20, 20]
    assert masks["a row of padding"].sum(axis=1).tolist() == [9, 0, 5]
    assert masks["padding on the left"][2].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_what_the_checkpoint_does_not_answer_is_left_out() -> None:
    def without_rows_of_padding(tensors: Tensors) -> Logits:
        silent = np.where(tensors["attention_mask"].any(axis=1), 0, np.nan)
        return classifier(tensors) + silent[:, np.newaxis].astype(np.float32)

    shapes = awkward_shapes(without_rows_of_padding, [1, 2, 3], inputs=INPUTS, pad_token_id=0, max_length=16)
    assert "padding on the left" in shapes.kinds
    assert "a row of padding" not in shapes.kinds


def test_a_row_of_padding_is_no_text_to_round_for() -> None:
    shapes = awkward_shapes(classifier, [1, 2, 3], inputs=INPUTS, pad_token_id=0, max_length=16)

    def off_there(tensors: Tensors) -> Logits:
        empty = ~tensors["attention_mask"].any(axis=1)
        return classifier(tensors) + np.float32(2) * empty[:, np.newaxis]

    assert shapes.worst(off_there) == (2.0, "batch 3 x length 9 (a row of padding)")
    assert shapes.worst(off_there, rounded=True)[0] == 0.0

    def silent_there(tensors: Tensors) -> Logits:
        empty = ~tensors["attention_mask"].any(axis=1)
        return classifier(tensors) + np.where(empty, np.nan, 0)[:, np.newaxis].astype(np.float32)

    assert shapes.worst(silent_there, rounded=True)[0] == np.inf


def test_token_stream() -> None:
    assert token_stream(TokenisedTexts(((1, 2), (3,)), INPUTS, 0), [9]) == [1, 2, 3]
    assert set(token_stream(None, [4, 5])) == {4, 5}


def test_logits() -> None:
    shapes = awkward_shapes(classifier, list(range(1, 100)), inputs=INPUTS, pad_token_id=0, max_length=64)
    exact = judge_logits("fp32", classifier, shapes)
    assert (exact.value, exact.limit, exact.passed) == (0.0, 1e-4, True)

    def wrong_when_long(tensors: Tensors) -> Logits:
        return classifier(tensors) + np.float32(0.5 * (tensors["input_ids"].shape == (3, 33)))

    off = judge_logits("fp32", wrong_when_long, shapes)
    assert not off.passed
    assert off.value == pytest.approx(0.5)
    assert off.detail["worst"] == "batch 3 x length 33"
    assert judge_logits("int8", wrong_when_long, shapes).passed


def test_logits_that_are_not_numbers() -> None:
    shapes = awkward_shapes(classifier, [1, 2, 3], inputs=INPUTS, pad_token_id=0, max_length=16)
    result = judge_logits("int8", lambda tensors: classifier(tensors) * np.float32(np.nan), shapes)
    assert not result.passed
    assert result.value == np.inf


@pytest.mark.parametrize(("changed", "passed"), [(0, True), (40, True), (41, False)])
def test_agreement_at_its_limit(changed: int, passed: bool) -> None:
    """98 % of 2,000 texts, half of the changed labels to the right one and half to the wrong one."""
    reference = [0] * 1000 + [1] * 1000
    truth = np.array([1 if index % 2 and index < changed else label for index, label in enumerate(reference)])
    candidate = [1 - label if index < changed else label for index, label in enumerate(reference)]
    results = {r.gate: r for r in judge_labelled("int8", logits(candidate), logits(reference), truth)}
    assert results["agreement"].passed is passed
    assert results["agreement"].value == pytest.approx(1 - changed / 2000)
    assert results["accuracy"].passed
    assert results["eval-size"].passed


@pytest.mark.parametrize(("wrong", "passed"), [(10, True), (11, False)])
def test_accuracy_at_half_a_point(wrong: int, passed: bool) -> None:
    truth = [0, 1] * 1000
    candidate = [1 - label if index < wrong else label for index, label in enumerate(truth)]
    results = {r.gate: r for r in judge_labelled("int8", logits(candidate), logits(truth), np.array(truth))}
    assert results["accuracy"].passed is passed
    assert results["accuracy"].limit == 0.005
    assert results["agreement"].passed


def test_accuracy_of_a_weak_checkpoint_is_held_to_one_per_cent_of_it() -> None:
    assert LIMITS["int8"].accuracy_limit(0.30) == pytest.approx(0.003)
    assert LIMITS["int8"].accuracy_limit(0.90) == 0.005


@pytest.mark.parametrize(("count", "passed"), [(1999, False), (2000, True)])
def test_eval_size(count: int, passed: bool) -> None:
    labels = [0, 1] * 1000
    size = judge_labelled("fp32", logits(labels[:count]), logits(labels[:count]), np.array(labels[:count]))[0]
    assert (size.gate, size.value, size.limit, size.passed) == ("eval-size", count, 2000, passed)


def test_answers_that_are_not_numbers_fail_whatever_their_labels() -> None:
    truth = np.zeros(2000, dtype=np.int64)
    good = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (2000, 1))
    bad = good.copy()
    bad[7] = np.nan
    assert [result.passed for result in judge_labelled("fp32", bad, good, truth)] == [True, False, False]


def test_invariance_of_a_classifier_that_ignores_the_batch() -> None:
    sentences = texts(ALONE_TEXTS + 50)
    result = judge_invariance("int8", classifier, sentences, predict(classifier, sentences))
    assert (result.value, result.passed) == (0.0, True)
    assert result.detail == {"largest_probability_change": 0.0, "probability_limit": 1e-3, "texts": ALONE_TEXTS}


def test_invariance_of_a_classifier_that_looks_at_its_neighbours() -> None:
    """A scale for the whole tensor: what dynamic quantisation does."""

    def scaled(tensors: Tensors) -> Logits:
        answer = classifier(tensors)
        return np.rint(answer / np.abs(answer).max()).astype(np.float32)

    result = judge_invariance("int8", scaled, texts(100))
    assert not result.passed
    assert result.value is not None
    assert result.value > 0
    assert result.detail["largest_probability_change"] > 0.1


@pytest.mark.parametrize(("moved", "passed"), [(0.0009, True), (0.0011, False)])
def test_invariance_of_a_probability_at_its_limit(moved: float, passed: bool) -> None:
    """All labels stay, and a probability moves with the size of the batch."""

    def drifting(tensors: Tensors) -> Logits:
        share = np.full(len(tensors["input_ids"]), 0.7 + moved * (len(tensors["input_ids"]) > 1))
        return np.log(np.stack([share, 1 - share], axis=1)).astype(np.float32)

    result = judge_invariance("int8", drifting, texts(40))
    assert (result.value, result.passed) == (0.0, passed)
    assert result.detail["largest_probability_change"] == pytest.approx(moved, abs=1e-6)
    message = "largest change of a probability 0.0011, limit 0.001"
    assert passed or message in str(error_of(result))


def test_invariance_to_padding() -> None:
    result = judge_invariance(
        "fp32", lambda tensors: classifier({**tensors, "attention_mask": tensors["input_ids"] * 0 + 1}), texts(40)
    )
    assert result.passed  # padding is token 0, which adds nothing

    def counts_padding(tensors: Tensors) -> Logits:
        return np.stack([np.full(len(tensors["input_ids"]), 20.0), (tensors["input_ids"] >= 0).sum(axis=1)], axis=1)

    assert not judge_invariance("fp32", counts_padding, texts(40)).passed


def test_not_run() -> None:
    results = not_run("fp32")
    assert [result.gate for result in results] == ["eval-size", "accuracy", "agreement"]
    assert all(result.value is None and result.passed for result in results)


def test_error_names_gate_value_limit_and_interval() -> None:
    truth = np.array([0, 1] * 1000)
    candidate = [1 - label if index < 100 else label for index, label in enumerate(truth.tolist())]
    _, accuracy, agreement = judge_labelled("int8", logits(candidate), logits(truth.tolist()), truth)
    error = error_of(accuracy)
    assert isinstance(error, GateError)
    assert (error.gate, error.limit, error.precision) == ("accuracy", 0.005, "int8")
    assert error.value == pytest.approx(0.05)
    assert "95 % interval of the difference -0.0" in str(error)
    assert "95 % interval of the share +0.9" in str(error_of(agreement))


def test_best_recipe_is_the_cheapest_of_those_that_agree_as_well() -> None:
    agreements = {"cheap": 0.980, "middle": 0.994, "dear": 0.996}
    tried = [Candidate(name, agreement, rms=0.1, one_text_ms=1.0) for name, agreement in agreements.items()]
    assert best(tried, 500) == "middle"  # one text of 500 is chance
    assert best(tried, 50_000) == "dear"


def test_batches_by_length_are_complete_and_within_budget() -> None:
    sentences = texts(200)
    batches = list(sentences.by_length(128))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(len(batch) * max(len(sentences.ids[row]) for row in batch) <= 128 for batch in batches)
    one_long = TokenisedTexts(((1,) * 300, (1,)), INPUTS, 0)
    assert list(one_long.by_length(128)) == [[1], [0]]


def test_pad() -> None:
    tensors = pad([[5, 6], [7]], (*INPUTS, "token_type_ids"), 1)
    assert tensors["input_ids"].tolist() == [[5, 6], [7, 1]]
    assert tensors["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert tensors["token_type_ids"].tolist() == [[0, 0], [0, 0]]
