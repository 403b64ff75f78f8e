"""Which of the demo's sentences train the model, which choose it, and which judge it.

Owns `split.json`: the ids of the held-out sentences, and how they were drawn. Standard library only.

The split is drawn by `draw` (deterministic, so anyone can redraw it) and committed as ids, so that it cannot move:
the committed adapter has never seen a sentence that the file says is for testing.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError
from demo.sentences import Sentence

SPLIT_FILE = Path(__file__).with_name("split.json")
TEST_COUNT = 2200
VALIDATION_COUNT = 700
_SALT = "bert-on-triton demo"


@dataclass(frozen=True)
class Split:
    """Ids of the held-out sentences; all others are for training."""

    test: frozenset[int]
    validation: frozenset[int]

    def __post_init__(self) -> None:
        both = self.test & self.validation
        if both:
            raise DemoError(f"sentence ids for testing and for validation at once: {sorted(both)[:5]}")

    def part(self, sentence: Sentence) -> str:
        """The name of the part that ``sentence`` belongs to: test, validation or train."""
        if sentence.id in self.test:
            return "test"
        return "validation" if sentence.id in self.validation else "train"

    def parts(self, sentences: Sequence[Sentence]) -> dict[str, list[Sentence]]:
        """All sentences by part.

        Raises:
            DemoError: an id of this split is not among ``sentences``.
        """
        missing = (self.test | self.validation) - {sentence.id for sentence in sentences}
        if missing:
            raise DemoError(f"{SPLIT_FILE.name} names sentences that the data set does not have: {sorted(missing)[:5]}")
        parts: dict[str, list[Sentence]] = {"train": [], "validation": [], "test": []}
        for sentence in sentences:
            parts[self.part(sentence)].append(sentence)
        return parts


def committed() -> Split:
    """The split of `split.json`."""
    content = json.loads(SPLIT_FILE.read_text(encoding="utf-8"))
    return Split(test=frozenset(content["test"]), validation=frozenset(content["validation"]))


def draw(sentences: Sequence[Sentence]) -> Split:
    """Draws the split: each label as often in every part, and sentences with the same words in the same part.

    The order of the draw is that of a hash of the words, so neither the order of the data set nor a random number
    generator has a say.
    """
    by_words: dict[str, list[Sentence]] = defaultdict(list)
    for sentence in sentences:
        by_words[_words(sentence.text)].append(sentence)
    by_label: dict[str, list[list[Sentence]]] = defaultdict(list)
    for words in sorted(by_words, key=_draw_key):
        by_label[by_words[words][0].label].append(by_words[words])

    test: set[int] = set()
    validation: set[int] = set()
    for groups in by_label.values():
        share = sum(len(group) for group in groups) / len(sentences)
        remaining = iter(groups)
        test |= _take(remaining, round(TEST_COUNT * share))
        validation |= _take(remaining, round(VALIDATION_COUNT * share))
    return Split(frozenset(test), frozenset(validation))


def to_json(split: Split) -> str:
    """``split`` as the text of `split.json`: sorted ids, twenty a line."""
    parts = {"test": split.test, "validation": split.validation}
    return "{\n" + ",\n".join(f'  "{name}": [\n{_id_lines(ids)}\n  ]' for name, ids in parts.items()) + "\n}\n"


def _id_lines(ids: Iterable[int]) -> str:
    ordered = [str(number) for number in sorted(ids)]
    return ",\n".join("    " + ", ".join(ordered[start : start + 20]) for start in range(0, len(ordered), 20))


def _take(groups: Iterable[list[Sentence]], count: int) -> set[int]:
    taken: set[int] = set()
    for group in groups:
        taken.update(sentence.id for sentence in group)
        if len(taken) >= count:
            break
    return taken


def _words(text: str) -> str:
    """The text without case, punctuation and spacing: what makes two sentences the same to a model."""
    return "".join(character for character in text.casefold() if character.isalnum())


def _draw_key(words: str) -> str:
    return hashlib.sha256(f"{_SALT}\n{words}".encode()).hexdigest()
