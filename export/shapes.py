"""Awkward shapes: batches that few texts make, on which a graph must still answer as the checkpoint does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.evaluation import Classifier, Logits, TokenisedTexts, pad

BATCH_SIZES = (1, 3, 5)
LENGTHS = (1, 8, 33, 96)  # and the model's longest


@dataclass(frozen=True)
class Shapes:
    """Awkward batches and the checkpoint's logits for them.

    Attributes:
        tensors: one batch of each size and length; from the second text on, texts are shorter than the batch is long.
        logits: what the checkpoint answers.
    """

    tensors: tuple[dict[str, NDArray[np.int64]], ...]
    logits: tuple[Logits, ...]

    def worst(self, classify: Classifier) -> tuple[float, str]:
        """The largest difference of a logit of ``classify`` from the checkpoint's, and the shape at which it came.

        Infinite when a logit is not a number.
        """
        worst, where = -1.0, ""
        for tensors, expected in zip(self.tensors, self.logits, strict=True):
            difference = float(np.abs(classify(tensors) - expected).max())
            difference = difference if np.isfinite(difference) else np.inf
            if difference > worst:
                batch_size, length = next(iter(tensors.values())).shape
                worst, where = difference, f"batch {batch_size} x length {length}"
        return worst, where


def awkward_shapes(
    reference: Classifier, stream: Sequence[int], *, inputs: tuple[str, ...], pad_token_id: int, max_length: int
) -> Shapes:
    """Batches of `BATCH_SIZES` x `LENGTHS` and ``max_length`` cut from ``stream``, and their logits."""
    batches = []
    position = 0
    for length in sorted({length for length in LENGTHS if length < max_length} | {max_length}):
        for batch_size in BATCH_SIZES:
            rows = []
            for index in range(batch_size):
                size = max(1, length - index * max(1, length // 6))
                rows.append([int(stream[(position + offset) % len(stream)]) for offset in range(size)])
                position += size
            batches.append(pad(rows, inputs, pad_token_id))
    return Shapes(tuple(batches), tuple(reference(tensors) for tensors in batches))


def token_stream(texts: TokenisedTexts | None, vocabulary: Iterable[int], *, seed: int = 0) -> list[int]:
    """Token ids for `awkward_shapes`: those of real ``texts``, one after another, or else a random draw."""
    if texts is not None:
        return [token for row in texts.ids[:500] for token in row]
    tokens = np.fromiter(vocabulary, dtype=np.int64)
    return [int(token) for token in np.random.default_rng(seed).choice(tokens, size=4096)]
