"""The texts of an export: labelled ones to judge it on, and others to calibrate INT8 on.

Labels in a file are matched to the checkpoint's by name; failing that, by name regardless of case; failing that, as ids
("0", "1", ...). All of a file's labels must match in one of these ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.labelled import LabelledDataError, LabelledText, read_labelled, read_texts
from export.errors import DataError, LabelError
from export.gates import MIN_EVAL_TEXTS

MAX_CALIBRATION_TEXTS = 500
# With fewer, a range measured on them says little about the next text.
MIN_CALIBRATION_TEXTS = 50


@dataclass(frozen=True)
class LabelledSet:
    """Texts and the ids of their labels, int64[texts]."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ExportTexts:
    """What an export has been given to read.

    Attributes:
        labelled: the texts to judge on; None without ``--eval-data``.
        calibration: the texts to calibrate on; empty when there are too few.
    """

    labelled: tuple[LabelledText, ...] | None
    calibration: tuple[str, ...]


def read(
    eval_data: Path | None, calibration_data: Path | None, *, text_column: str, label_column: str, seed: int
) -> ExportTexts:
    """Reads both files. Without one to calibrate on, some of the labelled texts calibrate and the rest judge.

    Raises:
        DataError: a file is missing, lacks the columns or holds nothing usable.
    """
    try:
        labelled = (
            None
            if eval_data is None
            else tuple(read_labelled(eval_data, text_column=text_column, label_column=label_column))
        )
        calibration = () if calibration_data is None else tuple(read_texts(calibration_data, text_column=text_column))
    except LabelledDataError as exc:
        raise DataError(str(exc)) from exc
    if calibration:
        return ExportTexts(labelled, _some(calibration, MAX_CALIBRATION_TEXTS, seed))
    return split(labelled, seed=seed) if labelled is not None else ExportTexts(None, ())


def split(labelled: Sequence[LabelledText], *, seed: int) -> ExportTexts:
    """Takes texts for calibration out of ``labelled``: what is over the number that judging needs, up to 500."""
    spare = len(labelled) - MIN_EVAL_TEXTS
    count = min(MAX_CALIBRATION_TEXTS, spare if spare >= 0 else len(labelled) // 5)
    if count < MIN_CALIBRATION_TEXTS:
        return ExportTexts(tuple(labelled), ())
    order = np.random.default_rng(seed).permutation(len(labelled))
    taken = set(order[:count].tolist())
    judged = tuple(row for index, row in enumerate(labelled) if index not in taken)
    return ExportTexts(judged, tuple(row.text for index, row in enumerate(labelled) if index in taken))


def _some(texts: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    if len(texts) <= count:
        return tuple(texts)
    rows = np.random.default_rng(seed).permutation(len(texts))[:count]
    return tuple(texts[row] for row in sorted(rows))


def match(labelled: Sequence[LabelledText], labels: Sequence[str]) -> LabelledSet:
    """``labelled`` with the ids that its labels have among ``labels``.

    Raises:
        LabelError: there are labels in it that are none of ``labels``.
    """
    names = sorted({row.label for row in labelled})
    ways = (
        {label: index for index, label in enumerate(labels)},
        {label.casefold(): index for index, label in enumerate(labels)},
        {str(index): index for index in range(len(labels))},
    )
    for ids in ways:
        found = [ids.get(name, ids.get(name.casefold()) if ids is ways[1] else None) for name in names]
        if len(ids) == len(labels) and None not in found:
            by_name = dict(zip(names, found, strict=True))
            return LabelledSet(
                tuple(row.text for row in labelled), np.array([by_name[row.label] for row in labelled], dtype=np.int64)
            )
    shown = ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
    raise LabelError(
        f"the labels of the evaluation data ({shown}) are not the checkpoint's ({', '.join(labels)}); expected these "
        f"names, or the ids 0 to {len(labels) - 1}: correct the file, or id2label in the checkpoint's config.json"
    )
