"""The texts that the clients send: movie sentences, and longer reviews made of them, in an order that is fair.

Sentences are the demo's held-out ones. A review is some consecutive sentences of the same label, in the order of the
data set, so that it has a label too; every sentence is in one text only, so all texts are distinct. How many sentences
a text has is drawn from `SENTENCES`, which makes the lengths roughly log-normal with a long tail.

A row that is slow gets through fewer texts in its time than one that is fast. So that both see the same lengths, any
`GROUP` consecutive texts hold one of each length class (the texts sorted by length and cut into `GROUP` parts).
"""

from __future__ import annotations

import csv
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import percentile

# Sentences in a text -> its share of the texts.
SENTENCES = {1: 0.78, 2: 0.14, 3: 0.05, 4: 0.02, 5: 0.01}
GROUP = 32
SEED = 0


@dataclass(frozen=True)
class Text:
    """One text, with the label that people gave its sentences."""

    text: str
    label: str


@dataclass(frozen=True)
class Lengths:
    """Tokens of the texts, special tokens counted, truncated as every row truncates."""

    texts: int
    mean: float
    median: float
    p95: float
    longest: int

    def __str__(self) -> str:
        return (
            f"{self.texts} distinct texts of {self.mean:.0f} tokens (mean; median {self.median:.0f}, "
            f"p95 {self.p95:.0f}, longest {self.longest})"
        )


def reviews(labelled: Path) -> list[Text]:
    """Sentences and longer reviews, from a CSV file with columns ``text`` and ``label``."""
    with labelled.open(newline="", encoding="utf-8") as file:
        rows = [Text(row["text"], row["label"]) for row in csv.DictReader(file)]
    draw = random.Random(SEED)
    made: dict[str, None] = {}
    result = []
    for label in sorted({row.label for row in rows}):
        sentences = [row.text for row in rows if row.label == label]
        while sentences:
            (count,) = draw.choices(list(SENTENCES), weights=list(SENTENCES.values()))
            text = " ".join(sentences[:count])
            sentences = sentences[count:]
            if text not in made:
                made[text] = None
                result.append(Text(text, label))
    return result


def fair_order(texts: Sequence[Text], tokens: Sequence[int]) -> list[int]:
    """Indices of ``texts`` so that any `GROUP` consecutive ones hold one of each length class.

    Args:
        texts: at least `GROUP`; those beyond a multiple of it are left out.
        tokens: length of each.
    """
    draw = random.Random(SEED)
    by_length = sorted(range(len(texts)), key=lambda index: (tokens[index], texts[index].text))
    each = len(texts) // GROUP
    spare = len(texts) - each * GROUP
    for _ in range(spare):
        by_length.pop(draw.randrange(len(by_length)))
    classes = [by_length[start : start + each] for start in range(0, len(by_length), each)]
    for members in classes:
        draw.shuffle(members)
    groups = [list(group) for group in zip(*classes, strict=True)]
    for group in groups:
        draw.shuffle(group)
    return [index for group in groups for index in group]


def lengths(tokens: Sequence[int]) -> Lengths:
    """Their distribution."""
    return Lengths(
        len(tokens), statistics.fmean(tokens), statistics.median(tokens), percentile(tokens, 0.95), max(tokens)
    )
