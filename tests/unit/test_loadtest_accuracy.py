"""Accuracy: the interval against published values, labels that are the same in other words, batches that lose none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bert_triton_client.answers import TensorInfo
from loadtest.conclusions import accuracy
from loadtest.conclusions.accuracy import NEVER_ANSWERED, LabelledTexts, check, match, wilson
from loadtest.conclusions.facts import TextSide
from loadtest.errors import TargetError, UsageError
from loadtest.target import InputTensor, Target

LABELS = ("negative", "positive")


def data(*labels: str) -> LabelledTexts:
    return LabelledTexts("eval.csv", tuple(f"text {number}" for number in range(len(labels))), labels)


def target(length: int = -1, *, max_batch_size: int = 4, datatype: str = "INT64", kind: str = "tensors") -> Target:
    roles = ("input_ids", "attention_mask", "token_type_ids")
    inputs = tuple(InputTensor(f"the_{role}", datatype, (length,), role) for role in roles)
    outputs = (TensorInfo("names", "BYTES", (1,)), TensorInfo("logits", "FP32", (2,)))
    return Target("grpc://localhost:8001", "bert_int8", "1", kind, inputs, outputs, max_batch_size)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(WordLevel({"[PAD]": 5, "[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))  # noqa: S106
    made.pre_tokenizer = Whitespace()
    made.enable_padding(pad_id=5, length=9)  # a file may say so; batches are laid out here
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
    # table I, method 3 (score, without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(right: int, total: int, low: float, high: float) -> None:
    found = wilson(right, total)
    assert found.value == right / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_all_right_stays_below_one_and_mirrors_none_right() -> None:
    all_right, none_right = wilson(20, 20), wilson(0, 20)
    assert all_right.high == 1.0
    assert all_right.low == pytest.approx(1 - (none_right.high or 0))


@pytest.mark.parametrize("labels", [("positive", "negative"), ("Positive", "NEGATIVE"), ("1", "0")])
def test_labels_by_name_by_case_and_by_id(labels: tuple[str, ...]) -> None:
    assert match(data(*labels), LABELS) == [1, 0]


def test_ids_are_not_mixed_with_names() -> None:
    with pytest.raises(UsageError, match="labels that the model does not: 0;"):
        match(data("positive", "0"), LABELS)


def test_names_that_differ_in_case_only_are_told_apart() -> None:
    assert match(data("A", "a"), ("a", "A")) == [1, 0]


def test_unknown_labels_are_named_with_those_expected() -> None:
    with pytest.raises(UsageError) as caught:
        match(data("positive", "neutral"), LABELS)
    assert "eval.csv has labels that the model does not: neutral" in str(caught.value)
    assert "expected negative, positive, or the ids 0 to 1" in str(caught.value)
    assert "--label-column" in str(caught.value)


def test_a_label_that_was_never_answered_may_be_any_name() -> None:
    assert match(data("positive", "negative"), (None, "positive")) == [1, NEVER_ANSWERED]


def test_more_unknown_labels_than_names_to_be_learned() -> None:
    with pytest.raises(UsageError, match="mixed, neutral"):
        match(data("positive", "mixed", "neutral"), (None, "positive"))


def test_labels_of_which_none_was_answered() -> None:
    """One label that the model never gave could be its other one; that all of them are is a wrong file."""
    with pytest.raises(UsageError, match="happy"):
        match(data("happy"), (None, "positive"))


@pytest.mark.parametrize(
    ("side", "said"),
    [(TextSide(labels=LABELS), "--tokenizer"), (TextSide(tokenizer=Path("tokenizer.json")), "--labels")],
)
def test_a_tensor_model_needs_tokenizer_and_labels(side: TextSide, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(target(), data("positive"), side)


def test_a_text_model_needs_neither() -> None:
    check(target(kind="text"), data("positive"), TextSide())


def test_labels_are_checked_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="neutral"):
        check(target(kind="text"), data("neutral"), TextSide(labels=LABELS))


def test_every_text_is_in_one_batch_with_texts_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 200, size=100)
    ids = [tuple(range(1, length + 1)) for length in lengths]
    batches = list(accuracy._batches(ids, target(max_batch_size=4), 5))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(100))
    for batch in batches:
        tokens, mask = batch.tensors["the_input_ids"], batch.tensors["the_attention_mask"]
        assert tokens.dtype == np.int64
        assert tokens.shape == mask.shape == (len(batch.rows), max(lengths[row] for row in batch.rows))
        assert len(batch.rows) <= 4
        assert len(batch.rows) == 1 or tokens.size <= accuracy.TOKENS_A_BATCH
        for row, line, present in zip(batch.rows, tokens, mask, strict=True):
            assert tuple(line[present == 1]) == ids[row]
            assert set(line[present == 0]) <= {5}


def test_a_model_of_one_length_gets_that_length() -> None:
    (batch,) = accuracy._batches([(1, 2), (3,)], target(8, datatype="INT32"), 0)
    assert batch.tensors["the_input_ids"].shape == (2, 8)
    assert batch.tensors["the_input_ids"].dtype == np.int32


def test_a_model_without_a_batch_dimension_gets_a_text_at_a_time() -> None:
    batches = list(accuracy._batches([(1, 2), (3, 4)], target(max_batch_size=0), 0))
    assert [batch.tensors["the_input_ids"].shape for batch in batches] == [(2,), (2,)]


def test_texts_are_cut_to_what_the_model_takes(tokenizer: Path) -> None:
    side = TextSide(tokenizer, LABELS, max_length=3)
    ids, truncated = accuracy._tokenise(["good bad good bad", "good"], side, None)
    assert ids == [(2, 3, 2), (2,)]
    assert truncated == 1
    assert accuracy._tokenise(["good bad good"], side, 2) == ([(2, 3)], 1)


def test_the_padding_is_the_tokenizer_s_where_no_config_says(tokenizer: Path) -> None:
    assert accuracy._padding(TextSide(tokenizer)) == 5
    assert accuracy._padding(TextSide(tokenizer, pad_token_id=1)) == 1


def test_logits_are_the_first_output_of_numbers() -> None:
    assert accuracy._logits_name(target()) == "logits"
    only_names = Target("grpc://h", "m", "1", "tensors", target().inputs, (TensorInfo("names", "BYTES", (1,)),), 1)
    with pytest.raises(TargetError, match="names BYTES"):
        accuracy._logits_name(only_names)


@pytest.mark.parametrize(
    ("content", "said"), [("text,label\n", "no texts"), ("text\nhello\n", "'label'"), (None, "no such")]
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "eval.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        LabelledTexts.read(path, text_column="text", label_column="label")
    assert "--eval-data" in str(caught.value)
