"""The labelled texts of a run: read, split, checked.

Owns which texts train, which choose the best epoch (validation) and which judge the result (test), and the order
of the labels. Standard library only; tokenising is `finetune.train`'s.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_triton_client.labelled import LabelledDataError, LabelledText, read_labelled
from finetune.errors import DataError

# A label needs one text to learn from and one to validate on.
MIN_TEXTS_PER_LABEL = 2


@dataclass(frozen=True)
class DataSource:
    """Where the labelled texts are.

    Attributes:
        train: file of the texts to train on.
        validation: file of the texts that choose the best epoch; None takes ``validation_share`` of ``train``.
        test: file of the texts that judge the result, used once, at the end.
        validation_share: share of ``train`` held out, each label in proportion, when there is no ``validation``.
    """

    train: Path
    validation: Path | None = None
    test: Path | None = None
    validation_share: float = 0.1
    text_column: str = "text"
    label_column: str = "label"

    def __post_init__(self) -> None:
        if not 0.0 < self.validation_share < 1.0:
            raise DataError(f"validation_share is {self.validation_share}: expected more than 0 and less than 1")


@dataclass(frozen=True)
class Dataset:
    """Texts by part, and the labels in the order of their ids."""

    labels: tuple[str, ...]
    train: tuple[LabelledText, ...]
    validation: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...] = ()

    def label_ids(self, part: Sequence[LabelledText]) -> list[int]:
        """The label of each text as its index in ``labels``."""
        ids = {label: index for index, label in enumerate(self.labels)}
        return [ids[item.label] for item in part]


def load(source: DataSource, *, seed: int) -> Dataset:
    """Reads and checks every file of ``source``.

    Raises:
        DataError: a file cannot be used; the training texts have fewer than two labels, or a label without two
            different texts; another part has a label that the training texts lack, or a text that is trained on.
    """
    train = _read(source, source.train)
    labels = _labels(train, source.train)
    validation = _read(source, source.validation) if source.validation else []
    if not source.validation:
        train, validation = hold_out(train, source.validation_share, seed=seed)
        _check_both_sides(train, validation, labels, source.train)
    test = _read(source, source.test) if source.test else []
    for name, part, path in (("validation", validation, source.validation), ("test", test, source.test)):
        if path:
            _check_labels(part, labels, path)
            _check_unseen(name, part, train, path)
    return Dataset(labels, tuple(train), tuple(validation), tuple(test))


def hold_out(
    texts: Sequence[LabelledText], share: float, *, seed: int
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Splits ``texts`` in two, each label in proportion, equal texts on one side.

    Every label keeps at least one text on each side if it has two different ones.

    Returns:
        What is left, and what is held out; both in the order of ``texts``.
    """
    by_label: dict[str, dict[str, int]] = defaultdict(dict)
    for item in texts:
        counts = by_label[item.label]
        counts[item.text] = counts.get(item.text, 0) + 1
    held: set[str] = set()
    for label in sorted(by_label):
        distinct = sorted(by_label[label])
        random.Random(f"{seed} {label}").shuffle(distinct)
        wanted = min(max(1, round(share * len(distinct))), len(distinct) - 1)
        held.update(distinct[:wanted])
    return [item for item in texts if item.text not in held], [item for item in texts if item.text in held]


def _read(source: DataSource, path: Path) -> list[LabelledText]:
    try:
        return read_labelled(path, text_column=source.text_column, label_column=source.label_column)
    except LabelledDataError as exc:
        raise DataError(str(exc)) from exc


def _labels(texts: Sequence[LabelledText], path: Path) -> tuple[str, ...]:
    counts = Counter(item.label for item in texts)
    if len(counts) < 2:
        raise DataError(f"{path} has one label only ({next(iter(counts))!r}): expected at least two to tell apart")
    rare = [label for label, count in counts.items() if count < MIN_TEXTS_PER_LABEL]
    if rare:
        raise DataError(
            f"{path} has {len(rare)} labels with fewer than {MIN_TEXTS_PER_LABEL} texts ({_some(rare)}): "
            "add texts, or take those labels out"
        )
    return tuple(sorted(counts, key=_label_order))


def _label_order(label: str) -> tuple[int, int, str]:
    """Numbers by value, before names by alphabet."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)


def _check_labels(texts: Sequence[LabelledText], labels: Sequence[str], path: Path) -> None:
    unknown = sorted({item.label for item in texts} - set(labels))
    if unknown:
        raise DataError(f"{path} has labels that the training texts lack: {_some(unknown)}; expected {_some(labels)}")


def _check_both_sides(
    train: Sequence[LabelledText], validation: Sequence[LabelledText], labels: Sequence[str], path: Path
) -> None:
    lost = [label for label in labels for part in (train, validation) if all(item.label != label for item in part)]
    if lost:
        raise DataError(
            f"{path} has too few different texts for {_some(lost)} to hold one out for validation: "
            "add texts, or pass --validation-data"
        )


def _check_unseen(name: str, texts: Sequence[LabelledText], train: Sequence[LabelledText], path: Path) -> None:
    seen = {item.text for item in train} & {item.text for item in texts}
    if seen:
        raise DataError(
            f"{len(seen)} {name} texts of {path} are trained on too (e.g. {min(seen)[:60]!r}): "
            "take them out of one of the two files, or the score means nothing"
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
