"""The gates: what a precision must prove before it is published, and the limits.

    logits      largest difference of a logit from the checkpoint's, on awkward shapes with mixed padding
    eval-size   how many labelled texts the next three rest on
    accuracy    accuracy lost against the checkpoint
    agreement   share of texts given the checkpoint's label
    invariance  texts whose label depends on what else is in the batch, and how far a probability moves with it

and `fusion` (`export.fuse`) and `labels` (`export.repository`), which judge a graph and a repository. A gate only
measures and judges; that a failing precision is not published is `export.pipeline`'s business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import GateError
from export.evaluation import Classifier, Logits, TokenisedTexts, predict, probabilities
from export.manifest import GateResult
from export.shapes import Shapes
from export.statistics import compare

GATES = ("logits", "eval-size", "accuracy", "agreement", "invariance", "fusion", "labels")
NEEDS_LABELS = ("eval-size", "accuracy", "agreement")
MIN_EVAL_TEXTS = 2000
ALONE_TEXTS = 150
MIXED_BATCH_SIZE = 16
ARRANGEMENTS = 2


@dataclass(frozen=True)
class Limits:
    """What a precision is held to: a row of `LIMITS`.

    Attributes:
        logits: largest difference of a logit from the checkpoint's.
        agreement: least share of texts with the checkpoint's label.
        accuracy_lost: most accuracy lost, absolute (0.005 is half a percentage point).
        accuracy_lost_relative: most accuracy lost, as a share of the checkpoint's.
        probability_moved: how far a probability may move with what else is in the batch.
        rounded: whether activations are rounded to 8 bits (`Shapes.worst`).
    """

    logits: float
    agreement: float
    accuracy_lost: float
    accuracy_lost_relative: float
    probability_moved: float
    rounded: bool = False

    def accuracy_limit(self, reference_accuracy: float) -> float:
        """The stricter of the two limits on lost accuracy, absolute."""
        return min(self.accuracy_lost, self.accuracy_lost_relative * reference_accuracy)


# How far a probability may move with the batch is the same for all but bf16: 1e-3. Measured on the demo model, 150 to
# 300 texts alone and in mixed batches: fp32 and int8 in ONNX Runtime 0, int8 in OpenVINO 0 (of a packed graph; with
# attention over as many columns as the batch has it was up to 0.0095, see `export.packed_layout`).
LIMITS: dict[str, Limits] = {
    "fp32": Limits(1e-4, agreement=0.999, accuracy_lost=0.001, accuracy_lost_relative=0.01, probability_moved=1e-3),
    "fp16": Limits(2e-2, agreement=0.999, accuracy_lost=0.001, accuracy_lost_relative=0.01, probability_moved=1e-3),
    # Eight significant bits: each rounding is off by up to 0.2 %. Measured with OpenVINO imitating BF16 on a CPU
    # without it, demo model, 300 sentences: largest change of a logit 0.083 (RMS 0.010), agreement 0.993, accuracy
    # unchanged; a RoBERTa of two layers: 0.12. As with int8, agreement and accuracy judge what that costs, more
    # strictly, and the limit of the logits finds broken graphs. A probability moved by 2.4e-5 with the batch in 24
    # texts; on a CPU that has BF16 this was never measured, so ten times the limit of the others stands until it is.
    "bf16": Limits(0.5, agreement=0.99, accuracy_lost=0.003, accuracy_lost_relative=0.01, probability_moved=1e-2),
    # 8-bit rounding moves logits visibly and labels rarely: what it may cost is judged by agreement and accuracy, and
    # this limit is there to catch a graph that is broken on some shape. `export.quantize` says what was measured.
    "int8": Limits(
        1.0, agreement=0.98, accuracy_lost=0.005, accuracy_lost_relative=0.01, probability_moved=1e-3, rounded=True
    ),
}


def judge_logits(precision: str, classify: Classifier, shapes: Shapes) -> GateResult:
    """Gate `logits`: ``classify`` beside the checkpoint on awkward shapes."""
    limit = LIMITS[precision].logits
    worst, where = shapes.worst(classify, rounded=LIMITS[precision].rounded)
    detail = {"worst": where, "shapes": len(shapes.tensors)}
    return GateResult("logits", precision, worst, limit, worst <= limit, detail=detail)


def judge_labelled(
    precision: str, logits: Logits, reference: Logits, truth: NDArray[np.int64], *, seed: int = 0
) -> list[GateResult]:
    """Gates `eval-size`, `accuracy` and `agreement`, from the logits on the labelled texts."""
    limits = LIMITS[precision]
    scores = compare(truth, reference.argmax(axis=1), logits.argmax(axis=1), reference.shape[1], seed=seed)
    accuracy_limit = limits.accuracy_limit(scores.reference_accuracy)
    detail = asdict(scores)
    agreement = {"interval": detail.pop("agreement_interval"), "texts": scores.texts}
    detail.pop("agreement")
    finite = bool(np.isfinite(logits).all())
    # What is within the limit to twelve digits is within it: 0.876 - 0.871 is 0.005000000000000004.
    return [
        GateResult("eval-size", precision, scores.texts, MIN_EVAL_TEXTS, scores.texts >= MIN_EVAL_TEXTS),
        GateResult(
            "accuracy",
            precision,
            scores.accuracy_lost,
            accuracy_limit,
            finite and scores.accuracy_lost <= accuracy_limit + 1e-12,
            detail=detail,
        ),
        GateResult(
            "agreement",
            precision,
            scores.agreement,
            limits.agreement,
            finite and scores.agreement >= limits.agreement - 1e-12,
            detail=agreement,
        ),
    ]


def not_run(precision: str) -> list[GateResult]:
    """The gates that need labelled texts, when there are none: recorded as not run, and stopping nothing."""
    return [
        GateResult(gate, precision, None, None, passed=True, detail={"not_run": "no --eval-data"})
        for gate in NEEDS_LABELS
    ]


def judge_invariance(
    precision: str,
    classify: Classifier,
    texts: TokenisedTexts,
    by_length: Logits | None = None,
    *,
    seed: int = 0,
    workers: int = 1,
) -> GateResult:
    """Gate `invariance`: the same text alone, in mixed batches and (if given) among texts of its own length."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(texts))[:ALONE_TEXTS]
    some = replace(texts, ids=tuple(texts.ids[row] for row in rows))
    alone = predict(classify, some, batches=[[row] for row in range(len(some))], workers=workers)
    others = [] if by_length is None else [by_length[rows]]
    while len(others) < ARRANGEMENTS:
        order = generator.permutation(len(some)).tolist()
        batches = [order[start : start + MIXED_BATCH_SIZE] for start in range(0, len(order), MIXED_BATCH_SIZE)]
        others.append(predict(classify, some, batches=batches, workers=workers))
    changed = np.zeros(len(some), dtype=bool)
    largest = 0.0
    for other in others:
        changed |= other.argmax(axis=1) != alone.argmax(axis=1)
        largest = max(largest, float(np.abs(probabilities(other) - probabilities(alone)).max()))
    count = int(changed.sum())
    limit = LIMITS[precision].probability_moved
    passed = count == 0 and np.isfinite(largest) and largest <= limit
    detail: dict[str, Any] = {"largest_probability_change": largest, "probability_limit": limit, "texts": len(some)}
    return GateResult("invariance", precision, float(count), 0.0, bool(passed), detail=detail)


def error_of(result: GateResult) -> GateError:
    """The error that says why a precision is not published."""
    return GateError(result.gate, result.value, result.limit, result.precision, _sentence(result.gate, result.detail))


def moved(detail: dict[str, Any]) -> str:
    """How far a probability moved, as gate `invariance` puts it."""
    return (
        f"largest change of a probability {detail['largest_probability_change']:.2g}, "
        f"limit {detail['probability_limit']:g}"
    )


def _sentence(gate: str, detail: dict[str, Any]) -> str:
    """What else is to be said about a gate that failed."""
    if gate == "invariance":
        return moved(detail)
    key, of = {
        "logits": ("worst", ""),
        "accuracy": ("accuracy_difference_interval", "difference"),
        "agreement": ("interval", "share"),
    }.get(gate, ("", ""))
    extra = detail.get(key, "")
    if isinstance(extra, tuple):
        return f"95 % interval of the {of} {extra[0]:+.4f} to {extra[1]:+.4f}"
    return str(extra)
