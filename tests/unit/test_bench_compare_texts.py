"""The benchmark's texts: distinct, labelled, in an order that shows every row the same lengths."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.compare.texts import GROUP, fair_order, lengths, reviews


def write(path: Path, sentences: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([[n, f"sentence {n}", "positive" if n % 3 else "negative"] for n in range(sentences)])
    return path


def test_reviews_use_every_sentence_once_and_keep_their_label(tmp_path: Path) -> None:
    texts = reviews(write(tmp_path / "x.csv", 900))
    numbers = [int(word) for text in texts for word in text.text.split() if word != "sentence"]
    assert sorted(numbers) == list(range(900))
    assert len({text.text for text in texts}) == len(texts)
    for text in texts:
        found = [int(word) for word in text.text.split() if word != "sentence"]
        assert {"positive" if n % 3 else "negative" for n in found} == {text.label}
    assert max(len(text.text.split()) // 2 for text in texts) > 1
    assert texts == reviews(tmp_path / "x.csv")


def test_every_group_holds_one_text_of_each_length_class(tmp_path: Path) -> None:
    texts = reviews(write(tmp_path / "x.csv", 900))
    tokens = [(n * 37) % 101 for n in range(len(texts))]
    order = fair_order(texts, tokens)
    each = len(order) // GROUP
    assert len(order) == each * GROUP == len(set(order))
    by_length = sorted(order, key=lambda index: (tokens[index], texts[index].text))
    length_class = {index: rank // each for rank, index in enumerate(by_length)}
    for start in range(0, len(order), GROUP):
        assert sorted(length_class[index] for index in order[start : start + GROUP]) == list(range(GROUP))
    assert order[:GROUP] != by_length[::each]


def test_lengths() -> None:
    found = lengths([*range(1, 100), 200])
    assert (found.texts, found.median, found.p95, found.longest) == (100, 50.5, 95, 200)
