"""Awkward shapes: batches that few texts make, on which a graph must still answer as the checkpoint does.

Beside sizes and lengths those that tell a graph that drops padding from one that does not: many short texts, texts of
one length and of as many lengths as there are, a row of nothing but padding, padding on the left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.contract import ATTENTION_MASK, INPUT_IDS
from export.evaluation import Classifier, Logits, TokenisedTexts, pad

BATCH_SIZES = (1, 3, 5)
LENGTHS = (1, 8, 33, 96)  # and the model's longest
# By what is said of a batch: the lengths of its texts. Few tokens each: a checkpoint in PyTorch answers them all.
MIXTURES: dict[str, tuple[int, ...]] = {
    "64 texts": tuple(1 + index % 8 for index in range(64)),
    "equal lengths": (17,) * 5,
    "different lengths": tuple(range(1, 32, 4)),
}
PADDING_ROW = "a row of padding"


@dataclass(frozen=True)
class Shapes:
    """Awkward batches and the checkpoint's logits for them.

    Attributes:
        tensors: one batch of each size and length; from the second text on, texts are shorter than the batch is long.
        logits: what the checkpoint answers.
        kinds: what is special about a batch, "" where nothing is; none at all when nothing is anywhere.
    """

    tensors: tuple[dict[str, NDArray[np.int64]], ...]
    logits: tuple[Logits, ...]
    kinds: tuple[str, ...] = ()

    def worst(self, classify: Classifier, *, rounded: bool = False) -> tuple[float, str]:
        """The largest difference of a logit of ``classify`` from the checkpoint's, and the shape at which it came.

        Args:
            classify: what is compared.
            rounded: it rounds activations to 8 bits, by what real text needs. A row of nothing but padding is no text,
                and is then only held to having an answer and to changing no other.

        Returns:
            Infinite when a logit is not a number.
        """
        worst, where = -1.0, ""
        for number, (tensors, expected) in enumerate(zip(self.tensors, self.logits, strict=True)):
            differences = np.abs(classify(tensors) - expected)
            finite = bool(np.isfinite(differences).all())
            compared = tensors[ATTENTION_MASK].any(axis=1) if rounded else slice(None)
            difference = float(differences[compared].max(initial=0.0)) if finite else np.inf
            if difference > worst:
                batch_size, length = next(iter(tensors.values())).shape
                kind = self.kinds[number] if self.kinds else ""
                worst, where = difference, f"batch {batch_size} x length {length}{kind and f' ({kind})'}"
        return worst, where


def awkward_shapes(
    reference: Classifier, stream: Sequence[int], *, inputs: tuple[str, ...], pad_token_id: int, max_length: int
) -> Shapes:
    """Batches of `BATCH_SIZES` x `LENGTHS` and ``max_length`` and the special ones, and their logits.

    All are cut from ``stream``. A special one for which the checkpoint has no numbers is left out.
    """
    plan: list[tuple[str, Sequence[int]]] = []
    for length in sorted({length for length in LENGTHS if length < max_length} | {max_length}):
        for batch_size in BATCH_SIZES:
            step = max(1, length // 6)
            plan.append(("", [max(1, length - index * step) for index in range(batch_size)]))
    plan += [(kind, [min(length, max_length) for length in lengths]) for kind, lengths in MIXTURES.items()]
    texts = _cut(stream)
    batches = [(kind, pad([texts(length) for length in lengths], inputs, pad_token_id)) for kind, lengths in plan]
    ordinary = pad([texts(min(length, max_length)) for length in (9, 9, 5)], inputs, pad_token_id)
    batches.append((PADDING_ROW, _without_text(ordinary, 1, pad_token_id)))
    left = {name: np.ascontiguousarray(values[:, ::-1]) for name, values in ordinary.items()}
    batches.append(("padding on the left", left))
    answered = [(kind, tensors, reference(tensors)) for kind, tensors in batches]
    kinds, tensors, logits = zip(*(one for one in answered if not one[0] or np.isfinite(one[2]).all()), strict=True)
    return Shapes(tensors, logits, kinds)


def _cut(stream: Sequence[int]) -> Callable[[int], list[int]]:
    """Cuts one text after another off ``stream``, which begins anew where it ends."""
    tokens = itertools.cycle(int(token) for token in stream)
    return lambda length: list(itertools.islice(tokens, length))


def _without_text(tensors: dict[str, NDArray[np.int64]], row: int, pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """``tensors`` with nothing but padding in ``row``."""
    emptied = {name: values.copy() for name, values in tensors.items()}
    for name, values in emptied.items():
        values[row] = pad_token_id if name == INPUT_IDS else 0
    return emptied


def token_stream(texts: TokenisedTexts | None, vocabulary: Iterable[int], *, seed: int = 0) -> list[int]:
    """Token ids for `awkward_shapes`: those of real ``texts``, one after another, or else a random draw."""
    if texts is not None:
        return [token for row in texts.ids[:500] for token in row]
    tokens = np.fromiter(vocabulary, dtype=np.int64)
    return [int(token) for token in np.random.default_rng(seed).choice(tokens, size=4096)]
