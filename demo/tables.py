"""The demo's labelled sentences as files: train.csv, validation.csv and test.csv, with the columns id, text, label."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from demo import split
from demo.sentences import Sentence, sentences

PARTS = ("train", "validation", "test")
COLUMNS = ("id", "text", "label")


def write(folder: Path, cache: Path) -> dict[str, int]:
    """Writes all three into ``folder``; returns how many sentences each holds.

    Raises:
        DemoError: the sentences cannot be had (see `demo.sentences`).
    """
    parts = split.committed().parts(sentences(cache))
    for name in PARTS:
        _write_table(folder / f"{name}.csv", parts[name])
    return {name: len(parts[name]) for name in PARTS}


def _write_table(path: Path, rows: Sequence[Sentence]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((row.id, row.text, row.label) for row in rows)
