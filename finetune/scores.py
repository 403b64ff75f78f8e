"""Scores of predicted labels, and the weights that make rare labels count. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Labels = Sequence[int] | npt.NDArray[np.int64]


def accuracy(predicted: Labels, expected: Labels) -> float:
    """Share of predictions that are right."""
    return float(np.mean(np.asarray(predicted) == np.asarray(expected)))


def macro_f1(predicted: Labels, expected: Labels, num_labels: int) -> float:
    """Mean of the labels' F1 scores; a label that is neither expected nor predicted is left out."""
    hits, predictions, occurrences = (
        np.bincount(np.asarray(values, dtype=np.int64), minlength=num_labels)
        for values in (
            np.asarray(expected)[np.asarray(predicted) == np.asarray(expected)],
            predicted,
            expected,
        )
    )
    total = predictions + occurrences
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))


def scores(predicted: Labels, expected: Labels, num_labels: int) -> dict[str, float]:
    """Every metric of `finetune.recipe.METRICS`."""
    return {
        "accuracy": accuracy(predicted, expected),
        "macro_f1": macro_f1(predicted, expected, num_labels),
    }


def balanced_weights(labels: Labels, num_labels: int) -> npt.NDArray[np.float32]:
    """float32[num_labels]: the inverse of each label's frequency, scaled so that the mean over ``labels`` is 1.

    The formula is scikit-learn's "balanced", after King and Zeng, "Logistic Regression in Rare Events Data" (2001).
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=num_labels)
    return (len(labels) / (num_labels * counts)).astype(np.float32)
