"""From blocks to rows of the table: medians over rounds with their range, ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.compare.measure import Block

# Of the answers that are compared with the checkpoint's labels.
FP32_EQUAL = 0.999
# Below this the answers are wrong; above it quantisation has its price, which the table shows.
VALID_EQUAL = 0.90
# Failed requests beyond this share mark the row.
FAILED_SHARE = 0.01


@dataclass(frozen=True)
class Spread:
    """A median over rounds, and its range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """None without values."""
        found = [value for value in values if value is not None]
        return cls(statistics.median(found), min(found), max(found)) if found else None

    def __format__(self, spec: str) -> str:
        """``median (low-high)``, each by ``spec``; the range is left out where it was one round."""
        if self.low == self.high:
            return f"{self.median:{spec}}"
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


@dataclass(frozen=True)
class Row:
    """One contestant, over all rounds.

    Attributes:
        name: of the contestant.
        settings: of the contestant, with what was decided at its start.
        where: in process, or server.
        precision: of its matrix products.
        status: empty, or unavailable, failed, invalid with the reason.
        sentences_per_s: texts answered a second.
        p50_ms: median latency.
        p99_ms: 99th percentile.
        reference_ratio: sentences/s of ours, best / of this row, within a round.
        answered: texts over all rounds.
        failed: texts over all rounds.
        labels_equal: share of the answers that are the checkpoint's own label; None without answers.
        memory_mb: of its processes.
        cores: CPU seconds a second of its processes, median.
        client_cores: of the clients, median.
    """

    name: str
    settings: str
    where: str
    precision: str
    status: str
    sentences_per_s: Spread | None
    p50_ms: Spread | None
    p99_ms: Spread | None
    reference_ratio: Spread | None
    answered: int
    failed: int
    labels_equal: float | None
    memory_mb: float
    cores: float
    client_cores: float


def of_row(blocks: Sequence[Block], name: str) -> list[Block]:
    """A row's blocks, by round."""
    return sorted((block for block in blocks if block.row == name), key=lambda block: block.round)


def ratio(blocks: Sequence[Block], over: str, under: str) -> Spread | None:
    """Sentences/s of one row / of another, within each round that has both; None without such a round."""
    rates = {block.round: block.sentences_per_s for block in of_row(blocks, under)}
    return Spread.of(
        block.sentences_per_s / rates[block.round] for block in of_row(blocks, over) if rates.get(block.round)
    )


def share(answers: Sequence[tuple[int, str]], labels: Sequence[str]) -> float | None:
    """How many of the answers (index of the text, label) are its label in ``labels``; None without answers."""
    if not answers:
        return None
    return sum(label == labels[index] for index, label in answers) / len(answers)


def points_lost(
    answers: Sequence[tuple[int, str]], reference: Sequence[tuple[int, str]], labels: Sequence[str]
) -> float | None:
    """Percentage points of accuracy by which ``answers`` are worse than ``reference``, on the texts that both answered.

    Args:
        answers: (index of the text, label).
        reference: the same.
        labels: what people say of each text.
    """
    theirs, ours = dict(reference), dict(answers)
    both = theirs.keys() & ours.keys()
    if not both:
        return None
    right = [sum(found[index] == labels[index] for index in both) for found in (theirs, ours)]
    return 100 * (right[0] - right[1]) / len(both)


def verdict(*, answered: int, failed: int, failure: str, precision: str, equal: float | None, trained: bool) -> str:
    """What is wrong with a row, if anything.

    Args:
        answered: texts over all rounds.
        failed: texts over all rounds.
        failure: message of the first.
        precision: of the row.
        equal: share of its labels that are the checkpoint's.
        trained: whether the model is; the labels of one that is not hang on rounding, but in FP32.
    """
    if failed > FAILED_SHARE * (answered + failed):
        return f"failed: {failed} of {answered + failed} texts: {failure}"
    if equal is None:
        return ""
    if equal < VALID_EQUAL and (trained or precision == "fp32"):
        return f"invalid: only {equal:.1%} of its labels are the checkpoint's"
    if equal < FP32_EQUAL and precision == "fp32":
        return f"doubtful: FP32, but only {equal:.2%} of its labels are the checkpoint's"
    return ""
