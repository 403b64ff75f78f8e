"""`demo.split`: the committed split, and how one is drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from demo import split
from demo.errors import DemoError
from demo.sentences import Sentence, _rated
from demo.split import Split


def made_up(count: int) -> list[Sentence]:
    return [Sentence(i, f"sentence number {i}", "positive" if i % 3 else "negative") for i in range(1, count + 1)]


def test_committed_split_holds_ids_only_and_enough_of_them() -> None:
    committed = split.committed()
    assert len(committed.test) >= 2100
    assert 500 <= len(committed.validation) <= 1000
    assert not committed.test & committed.validation
    assert all(isinstance(number, int) and 1 <= number <= 10605 for number in committed.test | committed.validation)


def test_committed_file_is_what_is_written() -> None:
    assert split.to_json(split.committed()) == split.SPLIT_FILE.read_text(encoding="utf-8")


def test_draw_is_stratified_and_does_not_depend_on_the_order() -> None:
    sentences = made_up(9000)
    drawn = split.draw(sentences)
    assert drawn == split.draw(sentences[::-1])
    parts = drawn.parts(sentences)
    assert (len(parts["test"]), len(parts["validation"])) == (split.TEST_COUNT, split.VALIDATION_COUNT)
    for part in parts.values():
        labels = Counter(sentence.label for sentence in part)
        assert labels["negative"] / len(part) == pytest.approx(1 / 3, abs=0.001)


def test_draw_keeps_equal_words_together() -> None:
    sentences = [Sentence(2 * i + j, f"Word {i}{'.' * j}", "positive") for i in range(3000) for j in range(2)]
    drawn = split.draw(sentences)
    for i in range(3000):
        assert drawn.part(sentences[2 * i]) == drawn.part(sentences[2 * i + 1])


def test_parts_wants_every_id() -> None:
    with pytest.raises(DemoError, match=r"does not have: \[7\]"):
        Split(frozenset({7}), frozenset()).parts(made_up(3))


def test_an_id_cannot_be_in_two_parts() -> None:
    with pytest.raises(DemoError, match=r"at once: \[3\]"):
        Split(frozenset({1, 3}), frozenset({3}))


def test_undecided_ratings_are_left_out() -> None:
    table = "1\t0.5\tneither\r\n2\t-0.51\tbad\r\n3\t3.2\t good \r\n4\t-0.5\tneither"
    assert list(_rated(table)) == [Sentence(2, "bad", "negative"), Sentence(3, "good", "positive")]
