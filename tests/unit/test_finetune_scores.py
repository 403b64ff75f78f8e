"""`finetune.scores`, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.scores import accuracy, balanced_weights, macro_f1, scores


def test_accuracy() -> None:
    assert accuracy([0, 1, 1, 0], [0, 1, 0, 0]) == 0.75


def test_macro_f1_weighs_labels_equally() -> None:
    expected = [0] * 8 + [1] * 2
    predicted = [0] * 10
    # label 0: precision 0.8, recall 1; label 1: never predicted
    assert macro_f1(predicted, expected, 2) == pytest.approx((2 * 0.8 / 1.8 + 0) / 2)
    assert scores(predicted, expected, 2) == {"accuracy": 0.8, "macro_f1": pytest.approx(0.4444444)}


def test_macro_f1_leaves_out_labels_that_do_not_occur() -> None:
    assert macro_f1([0, 1], [0, 1], 5) == 1.0


def test_balanced_weights_make_labels_count_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = balanced_weights(labels, 2)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
