"""The examination that every precision of an export sits: the same texts, the same answers of the checkpoint.

The checkpoint is run once, over everything; then each precision is run over the same and judged by `export.gates`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import gates
from export.data import ExportTexts, match
from export.evaluation import Logits, TokenisedTexts, predict, tokenise
from export.manifest import GateResult
from export.precisions import Variant
from export.progress import Steps
from export.shapes import Shapes, awkward_shapes, token_stream
from export.source import Source


@dataclass(frozen=True)
class Questions:
    """The texts of an export, tokenised.

    Attributes:
        judged: labelled texts; None without ``--eval-data``.
        truth: their label ids, int64[texts].
        calibration: texts to calibrate on; None when there are none.
        mixed: texts of mixed lengths, real ones where there are any.
        stream: token ids to fill batches of any shape with.
    """

    judged: TokenisedTexts | None
    truth: NDArray[np.int64] | None
    calibration: TokenisedTexts | None
    mixed: TokenisedTexts
    stream: list[int]


@dataclass(frozen=True)
class Examination:
    """The questions, and the checkpoint's answers to them."""

    questions: Questions
    shapes: Shapes
    judged: Logits | None
    threads: int
    seed: int


def ask(source: Source, texts: ExportTexts, seed: int) -> Questions:
    """Tokenises what the export was given.

    Raises:
        LabelError: the labels in the evaluation data are not the checkpoint's.
    """
    tokenizer_json = source.text.tokenizer_json()

    def tokens(lines: Collection[str]) -> TokenisedTexts:
        return tokenise(tuple(lines), tokenizer_json, source.inputs, source.text.max_length, source.text.pad_token_id)

    labelled = match(texts.labelled, source.text.labels) if texts.labelled is not None else None
    judged = tokens(labelled.texts) if labelled is not None else None
    calibration = tokens(texts.calibration) if texts.calibration else None
    real = judged or calibration
    special = set(source.text.tokenizer.all_special_ids)
    vocabulary = sorted(set(source.text.tokenizer.get_vocab().values()) - special)
    stream = token_stream(calibration or judged, vocabulary, seed=seed)
    mixed = real or _invented(source, stream, seed)
    return Questions(judged, labelled.labels if labelled is not None else None, calibration, mixed, stream)


def _invented(source: Source, stream: list[int], seed: int) -> TokenisedTexts:
    """Random tokens in texts of mixed lengths, for want of real ones."""
    lengths = np.random.default_rng(seed).integers(3, min(64, source.text.max_length), size=gates.ALONE_TEXTS)
    starts = np.cumsum(lengths) % (len(stream) - 64)
    rows = tuple(tuple(stream[start : start + length]) for start, length in zip(starts, lengths, strict=True))
    return TokenisedTexts(rows, source.inputs, source.text.pad_token_id)


def prepare(source: Source, questions: Questions, raw: Path, *, threads: int, seed: int, steps: Steps) -> Examination:
    """Has the checkpoint answer the questions."""
    reference = source.reference(raw)
    text = source.text
    shapes = awkward_shapes(
        reference,
        questions.stream,
        inputs=source.inputs,
        pad_token_id=text.pad_token_id,
        max_length=text.max_length,
    )

    judged = None
    if questions.judged is not None:
        with steps.bar("checkpoint: answering the evaluation texts", len(questions.judged)) as progress:
            judged = predict(reference, questions.judged, progress, workers=threads)
    return Examination(questions, shapes, judged, threads, seed)


def examine(variant: Variant, examination: Examination, steps: Steps) -> list[GateResult]:
    """Judges ``variant`` by every gate, on the engine that will serve it.

    Raises:
        EngineError: the engine cannot run it.
    """
    precision = variant.precision
    # Bulk work runs on many single threads (`predict`), awkward shapes on all of them together, as they are served.
    served = variant.classifier(examination.threads)
    results = [gates.judge_logits(precision, served, examination.shapes)]
    del served
    classify = variant.classifier(1, calls=examination.threads)
    questions = examination.questions
    logits = None
    if questions.judged is None or questions.truth is None or examination.judged is None:
        results += gates.not_run(precision)
    else:
        with steps.bar(f"{precision}: answering the evaluation texts", len(questions.judged)) as progress:
            logits = predict(classify, questions.judged, progress, workers=examination.threads)
        results += gates.judge_labelled(precision, logits, examination.judged, questions.truth, seed=examination.seed)
        results = [_with_truncated(result, questions.judged.truncated) for result in results]
    steps.say(f"{precision}: the same texts alone and in mixed batches")
    results.append(
        gates.judge_invariance(
            precision, classify, questions.mixed, logits, seed=examination.seed, workers=examination.threads
        )
    )
    return results


def _with_truncated(result: GateResult, truncated: int) -> GateResult:
    """Says on the gate about the texts how many of them were cut to the model's longest."""
    if result.gate != "eval-size" or not truncated:
        return result
    return replace(result, detail={**result.detail, "truncated": truncated})
