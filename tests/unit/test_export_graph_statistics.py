"""Scores and their paired intervals, against sums by hand and a bootstrap the long way."""

from __future__ import annotations

import numpy as np
import pytest

from export.statistics import compare


def test_scores_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    reference = np.array([0, 0, 1, 1, 1, 2])
    candidate = np.array([0, 1, 1, 1, 0, 2])
    scores = compare(truth, reference, candidate, 3)
    assert scores.texts == 6
    assert scores.reference_accuracy == pytest.approx(5 / 6)
    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.accuracy_lost == pytest.approx(2 / 6)
    assert scores.agreement == pytest.approx(4 / 6)
    # F1 = 2 TP / (true + predicted): 4/5, 4/5 and 1; 2/5, 2/5 and 1.
    assert scores.reference_macro_f1 == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
    assert scores.macro_f1 == pytest.approx((2 / 5 + 2 / 5 + 1) / 3)


def test_label_that_never_occurs_counts_as_zero() -> None:
    labels = np.array([0, 1, 0, 1])
    assert compare(labels, labels, labels, 3).macro_f1 == pytest.approx(2 / 3)


def test_equal_classifiers_have_intervals_of_no_width() -> None:
    labels = np.random.default_rng(0).integers(0, 2, size=500)
    scores = compare(labels, labels, labels, 2)
    assert scores.accuracy_difference_interval == (0.0, 0.0)
    assert scores.macro_f1_difference_interval == (0.0, 0.0)
    assert scores.agreement_interval == (1.0, 1.0)


def test_intervals_are_those_of_drawing_texts() -> None:
    """The multinomial of triples against the textbook's bootstrap, which draws texts one by one."""
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, size=800)
    reference = np.where(generator.random(800) < 0.9, truth, 1 - truth)
    candidate = np.where(generator.random(800) < 0.97, reference, 1 - reference)
    scores = compare(truth, reference, candidate, 2)

    differences = []
    for _ in range(4000):
        rows = generator.integers(0, 800, size=800)
        differences.append((candidate[rows] == truth[rows]).mean() - (reference[rows] == truth[rows]).mean())
    low, high = np.quantile(differences, [0.025, 0.975])
    assert scores.accuracy_difference_interval == pytest.approx((low, high), abs=0.002)
    assert low <= -scores.accuracy_lost <= high


def test_same_seed_same_intervals() -> None:
    generator = np.random.default_rng(2)
    truth, reference, candidate = (generator.integers(0, 3, size=300) for _ in range(3))
    assert compare(truth, reference, candidate, 3, seed=5) == compare(truth, reference, candidate, 3, seed=5)
