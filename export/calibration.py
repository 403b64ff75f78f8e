"""Calibration: measuring activations on text, and choosing the INT8 recipe that does best on that text.

The text that a recipe is chosen on is not the text that it is judged on (`export.gates`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.contract import ATTENTION_MASK, LOGITS
from export.evaluation import (
    Classifier,
    Logits,
    Progress,
    Tensors,
    TokenisedTexts,
    median_ms,
    onnx_classifier,
    onnx_session,
    predict,
)
from export.shapes import Shapes

if TYPE_CHECKING:
    from export.quantize import Recipe

Array = NDArray[np.float32]
# By the name of a tensor: the least and largest value of each channel over all real (not padding) tokens.
Ranges = dict[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Measured:
    """What the FP32 graph did on the calibration text.

    Attributes:
        ranges: of the activations that will be quantised.
        logits: its answers. They stand in for the checkpoint's, which gate `logits` holds them to within 1e-4 of.
    """

    ranges: Ranges
    logits: Logits


@dataclass(frozen=True)
class Candidate:
    """A recipe tried on the calibration text.

    Attributes:
        recipe: its name.
        agreement: share of the calibration texts with the label that they have in FP32.
        rms: root mean square of the differences of the logits.
        one_text_ms: median time for one text of median length on one thread, on this machine while it was measured.
    """

    recipe: str
    agreement: float
    rms: float
    one_text_ms: float


def measure(
    model: Any, tensors: Sequence[str], texts: TokenisedTexts, threads: int, progress: Progress | None = None
) -> Measured:
    """Runs ``model`` on ``texts``; returns its logits and the range of each channel of ``tensors``."""
    from onnx import TensorProto, helper

    probed = type(model)()
    probed.CopyFrom(model)
    for name in tensors:
        probed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnx_session(probed.SerializeToString(), 1)
    ranges: Ranges = {}
    lock = threading.Lock()

    def classify(feed: Tensors) -> Logits:
        logits, *activations = session.run([LOGITS, *tensors], dict(feed))
        found = [_range(_real_tokens(values, feed[ATTENTION_MASK])) for values in activations]
        with lock:
            for name, extremes in zip(tensors, found, strict=True):
                ranges[name] = _union(ranges.get(name, extremes), extremes)
        return np.asarray(logits, dtype=np.float32)

    logits = predict(classify, texts, progress, workers=threads)
    return Measured(ranges, logits)


def _real_tokens(values: Array, mask: NDArray[np.int64]) -> Array:
    """``values`` as float32[tokens, channels] without padding (a head's values have no tokens to leave out).

    Those of a packed graph, [1, tokens, channels], have none; rows that round a number of tokens up repeat a token.
    """
    if values.ndim != 3:
        return values
    # Texts of one length, as most batches are here, need no copy.
    padded = values.shape[:2] == mask.shape and not mask.all()
    return values[mask.astype(bool)] if padded else values.reshape(-1, values.shape[-1])


def _range(values: Array) -> tuple[Array, Array]:
    return values.min(axis=0), values.max(axis=0)


def _union(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.minimum(one[0], other[0]), np.maximum(one[1], other[1])


def choose(
    recipes: Sequence[Recipe],
    build: Callable[[Recipe], Any],
    texts: TokenisedTexts,
    reference: Logits,
    *,
    shapes: Shapes,
    limit: float,
    threads: int,
    progress: Callable[[Candidate], object] | None = None,
) -> tuple[str, list[Candidate]]:
    """Tries ``recipes``, cheapest first, on calibration ``texts``; returns the best one's name and all scores.

    The best agreement counts, to within its standard error: a difference of one text in 500 is chance. Among those that
    agree as well, the cheapest is taken, by the order of the recipes and not by the clock: the same export gives the
    same model. One that would fail gate `logits`, beyond ``limit`` on a shape that calibration text does not have, is
    passed over, unless all would.
    """
    candidates = []
    for recipe in recipes:
        classify = onnx_classifier(build(recipe).SerializeToString(), 1)
        candidates.append(_score(recipe.name, classify, texts, reference, workers=threads))
        if progress is not None:
            progress(candidates[-1])
    sound = {recipe.name: recipe for recipe in recipes}
    while sound:
        name = best([candidate for candidate in candidates if candidate.recipe in sound], len(texts))
        classify = onnx_classifier(build(sound.pop(name)).SerializeToString(), threads)
        worst, _ = shapes.worst(classify, rounded=True)
        if worst <= limit:
            return name, candidates
    return best(candidates, len(texts)), candidates


def best(candidates: Sequence[Candidate], texts: int) -> str:
    """The recipe of the first candidate that agrees as well as the best one, to within the standard error."""
    top = max(candidate.agreement for candidate in candidates)
    error = float(np.sqrt(top * (1 - top) / texts))
    return next(candidate.recipe for candidate in candidates if candidate.agreement >= top - error)


def _score(recipe: str, classify: Classifier, texts: TokenisedTexts, reference: Logits, *, workers: int) -> Candidate:
    logits = predict(classify, texts, workers=workers)
    return Candidate(
        recipe,
        agreement=float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        rms=float(np.sqrt(np.mean((logits - reference) ** 2))),
        one_text_ms=median_ms(classify, texts.tensors([middle(texts)]), budget_s=0.5),
    )


def middle(texts: TokenisedTexts) -> int:
    """The number of a text of median length."""
    return sorted(range(len(texts)), key=lambda row: len(texts.ids[row]))[len(texts) // 2]
