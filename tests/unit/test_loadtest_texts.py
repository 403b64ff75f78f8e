"""Texts and rows of tokens: none twice, of the lengths that were asked for, and described as they were sent."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.cell import TensorNames, TextSource
from loadtest.errors import UsageError
from loadtest.payloads import lengths, texts, tokens
from loadtest.payloads.texts import MARK_BITS, MARK_WORDS, POOL_SIZE, Texts, mark
from loadtest.payloads.tokens import Tokens
from loadtest.payloads.words import WORDS
from tests.conftest import REPOSITORY_ROOT


def take(source: TextSource, count: int, process_index: int = 0) -> tuple[Texts, list[bytes]]:
    made = Texts(source, process_index)
    return made, [made.next() for _ in range(count)]


# --- Words ---


def test_nine_bits_pick_a_word() -> None:
    assert len(set(WORDS)) == len(WORDS) == 512
    assert all(word.isalpha() and word.isascii() and word.islower() for word in WORDS)


def test_words_are_single_tokens_of_berts_vocabulary() -> None:
    tokenizer = REPOSITORY_ROOT / "model_repository/sentiment/1/tokenizer.json"
    if not tokenizer.exists():
        pytest.skip("the demo model is not exported; run `make demo`")
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    assert [word for word in WORDS if word not in vocabulary] == []


# --- Distinctness ---


@given(st.integers(0, 2**MARK_BITS - 1), st.integers(0, 2**MARK_BITS - 1))
def test_different_numbers_spell_different_words(one: int, other: int) -> None:
    assert (mark(one) == mark(other)) == (one == other)
    assert len(mark(one).split()) == MARK_WORDS


def test_numbers_in_a_row_share_no_pattern() -> None:
    firsts = [mark(number).split()[0] for number in range(1000)]
    assert len(set(firsts)) > 300


@pytest.mark.parametrize("median_words", [5, 18])
def test_no_text_comes_twice_from_any_process_or_run(median_words: float) -> None:
    source = TextSource(median_words=median_words, sigma=0)
    runs = [take(source, 5000, process_index)[1] for process_index in (0, 1, 0)]
    assert len({text for run in runs for text in run}) == 15_000


@pytest.mark.parametrize("rows", [1, 7])
def test_no_text_of_a_file_comes_twice_though_it_is_cycled(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text\n" + "".join(f"film number {i}\n" for i in range(rows)))
    made, sent = take(TextSource(path=str(path)), 100)
    assert len(set(sent)) == 100
    behind = [b" ".join(text.split()[MARK_WORDS:]).decode() for text in sent]
    assert set(behind) == {f"film number {i}" for i in range(rows)}
    assert len(set(behind[:rows])) == rows  # each once before any twice
    assert made.counts == {3 + MARK_WORDS: 100}


def test_files_are_shuffled_alike_for_one_seed_and_differently_for_processes(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text("".join(f"film {i}\n" for i in range(200)))

    def order(seed: int, process_index: int) -> list[bytes]:
        _, sent = take(TextSource(path=str(path), seed=seed), 200, process_index)
        return [text.split()[-1] for text in sent]

    assert order(0, 0) == order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != sorted(order(0, 0), key=int)


# --- Lengths ---


def test_lengths_are_log_normal_within_their_bounds() -> None:
    source = TextSource(median_words=18, sigma=0.6, min_words=5, max_words=120)
    made, sent = take(source, 8000)
    words = [len(text.split()) for text in sent]
    assert {length: words.count(length) for length in set(words)} == made.counts
    assert min(words) >= 5
    assert max(words) <= 120
    assert 17 <= statistics.median(words) <= 19
    # The 84.1st percentile of a log-normal is median * exp(sigma): 32.8.
    assert 31 <= sorted(words)[int(0.841 * len(words))] <= 35


def test_one_seed_gives_one_sequence_of_lengths() -> None:
    def words(seed: int) -> list[int]:
        return [len(text.split()) for text in take(TextSource(seed=seed), 50)[1]]

    assert words(3) == words(3) != words(4)


def test_lengths_say_mean_and_p95_of_what_was_sent() -> None:
    counts = {10: 90, 20: 5, 50: 5}
    assert lengths.describe("words", counts) == "words: mean 12.5, p95 20"
    assert lengths.describe("words", {10: 94, 50: 6}) == "words: mean 12.4, p95 50"
    assert lengths.describe("tokens", {128: 3}) == "tokens: 128 each"
    source = TextSource()
    made, sent = take(source, 400)
    mean = statistics.mean(len(text.split()) for text in sent)
    assert texts.describe(source, made.counts).startswith(f"words: mean {mean:.1f}, p95 ")
    assert texts.describe(source, {}) == "words: log-normal, median 18, sigma 0.6, 5 to 120"


def test_a_file_is_named_with_what_was_done_to_its_texts() -> None:
    source = TextSource(path="/data/reviews.csv")
    said = texts.describe(source, {8: 1, 10: 1})
    assert said == "texts of reviews.csv, each made distinct by 5 words; words: mean 9.0, p95 10"


# --- Repeats ---


def test_the_repeated_share_comes_from_one_pool_of_all_processes_and_runs() -> None:
    source = TextSource(repeat_share=1.0)
    pool = set(take(source, 3000)[1])
    assert len(pool) == POOL_SIZE
    assert set(take(source, 3000, 1)[1]) == pool


def test_the_repeated_share_is_as_large_as_asked_and_said() -> None:
    source = TextSource(repeat_share=0.3)
    pool = set(take(TextSource(repeat_share=1.0), 3000)[1])
    made, sent = take(source, 4000)
    # Four standard deviations of a binomial with n = 4000, p = 0.3 are 0.029.
    assert 0.27 <= sum(text in pool for text in sent) / 4000 <= 0.33
    rest = [text for text in sent if text not in pool]
    assert len(set(rest)) == len(rest)
    assert texts.describe(source, made.counts).startswith("30 % of them repeats from a pool of 100; words: mean ")


def test_repeats_of_a_file_are_its_first_texts_word_for_word(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text("".join(f"film {i}\n" for i in range(150)))
    _, sent = take(TextSource(path=str(path), repeat_share=1.0), 3000)
    assert set(sent) == {f"film {i}".encode() for i in range(100)}


# --- Bad files ---


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", "", "is empty"),
        ("empty.txt", "", "holds no texts"),
        ("header.csv", "text\n", "holds no texts"),
        ("column.csv", "review\nfine\n", "no column 'text'"),
        ("format.parquet", "x", "cannot tell the format"),
        ("blank.txt", "fine\n\n", "line 2"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        Texts(TextSource(path=str(path)))
    assert name in str(caught.value)


# --- Tokens ---


def rows_of(made: Tokens, count: int) -> list[list[int]]:
    return [
        [int.from_bytes(row.ids[i : i + 4], "little") for i in range(0, len(row.ids), 4)]
        for row in (made.next() for _ in range(count))
    ]


def token_rows(names: TensorNames, *, fixed_length: int | None = None, source: TextSource | None = None) -> Tokens:
    return Tokens(source or TextSource(), names, fixed_length=fixed_length, id_bytes=4)


def test_rows_are_framed_and_within_the_vocabulary() -> None:
    made = token_rows(TensorNames(vocabulary_size=5000))
    rows = rows_of(made, 500)
    assert {row[0] for row in rows} == {101}
    assert {row[-1] for row in rows} == {102}
    inner = [number for row in rows for number in row[1:-1]]
    assert min(inner) >= 1000
    assert max(inner) < 5000
    assert len(set(inner)) > 2500
    assert sum(made.counts.values()) == 500
    assert made.counts == {n: [len(row) for row in rows].count(n) for n in {len(row) for row in rows}}


@given(st.integers(2, 3000), st.integers(1, 12), st.integers(0, 3))
def test_any_vocabulary_and_length_gives_rows_of_that_length(vocabulary: int, length: int, index: int) -> None:
    names = TensorNames(vocabulary_size=vocabulary, sequence_length=length)
    made = Tokens(TextSource(), names, fixed_length=None, id_bytes=8, process_index=index)
    for _ in range(3):
        row = made.next()
        assert row.length == length == len(row.ids) // 8
        assert max(int.from_bytes(row.ids[i : i + 8], "little") for i in range(0, len(row.ids), 8)) < vocabulary


@pytest.mark.parametrize(("vocabulary", "length"), [(30522, 7), (30522, 128), (1200, 10), (200, 16)])
def test_no_row_comes_twice(vocabulary: int, length: int) -> None:
    names = TensorNames(vocabulary_size=vocabulary, sequence_length=length)
    made = [token_rows(names) for _ in range(2)]
    assert len({one.next().ids for one in made for _ in range(4000)}) == 8000


def test_rows_have_the_lengths_of_texts_and_two_tokens_more() -> None:
    source = TextSource(median_words=10, sigma=0, max_words=10)
    assert {len(row) for row in rows_of(token_rows(TensorNames(), source=source), 20)} == {12}
    assert {len(row) for row in rows_of(token_rows(TensorNames(), source=source, fixed_length=8), 20)} == {8}


def test_rows_take_the_lengths_of_a_files_texts(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text("a b c\na b c d e f\n")
    source = TextSource(path=str(path))
    made = token_rows(TensorNames(), source=source)
    assert {len(row) for row in rows_of(made, 10)} == {5, 8}
    said = tokens.describe(source, TensorNames(), None, made.counts)
    assert said == "random tokens in the lengths of reviews.txt; tokens: mean 6.5, p95 8"


def test_repeated_rows_come_from_one_pool() -> None:
    source = TextSource(repeat_share=1.0)
    made = [token_rows(TensorNames(), source=source) for _ in range(2)]
    pools = [{one.next().ids for _ in range(3000)} for one in made]
    assert len(pools[0]) == POOL_SIZE
    assert pools[0] == pools[1]


def test_lengths_of_rows_say_the_padding_that_the_model_forces() -> None:
    names = TensorNames()
    assert tokens.describe(TextSource(), names, 128, {10: 1, 20: 1}) == "tokens: mean 15.0, p95 20; padded to 128"
    assert tokens.describe(TextSource(), names, 128, {128: 9}) == "tokens: 128 each"
    assert tokens.describe(TextSource(), TensorNames(sequence_length=64), None, {}) == "tokens: 64 each"
