"""Texts to ids with a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from backends.bert_text.texts import NO_TOKENS, TOO_MANY_TOKENS, BadText
from backends.bert_text.tokenise import Tokeniser, TokenizerError, Tokens

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "bad": 5, "film": 6}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    # As a checkpoint may bring it: the file's own truncation and padding must not count.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_encodes_without_padding_and_without_the_files_truncation(path: Path) -> None:
    tokeniser = Tokeniser(path, 8, truncate=False)
    assert tokeniser.encode(["good film", "bad bad bad film"]) == [
        Tokens([2, 4, 6, 3]),
        Tokens([2, 5, 5, 5, 6, 3]),
    ]


def test_an_over_long_text_is_an_error(path: Path) -> None:
    tokens, bad = Tokeniser(path, 4, truncate=False).encode(["good film", "good good film"])
    assert tokens == Tokens([2, 4, 6, 3])
    assert isinstance(bad, BadText)
    assert bad.reason == TOO_MANY_TOKENS
    assert "5 tokens, of which this model takes 4" in bad.message


def test_an_over_long_text_is_cut_and_keeps_its_special_tokens(path: Path) -> None:
    exact, cut = Tokeniser(path, 4, truncate=True).encode(["good film", "good good film"])
    assert exact == Tokens([2, 4, 6, 3], truncated=False)
    assert cut == Tokens([2, 4, 4, 3], truncated=True)


def test_a_text_without_tokens_is_an_error(path: Path) -> None:
    # U+E000 (private use) is no white space and no control character, and BERT's normalizer drops it.
    (bad,) = Tokeniser(path, 8, truncate=False).encode(["\ue000"])
    assert isinstance(bad, BadText)
    assert bad.reason == NO_TOKENS


def test_tokenizers_before_0_20_have_no_encode_batch_fast(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def __init__(self, real: Tokenizer) -> None:
            self.real = real

        @staticmethod
        def from_file(file: str) -> Old:
            return Old(Tokenizer.from_file(file))

        def __getattr__(self, name: str) -> object:
            if name == "encode_batch_fast":
                raise AttributeError(name)
            return getattr(self.real, name)

    monkeypatch.setattr("backends.bert_text.tokenise.Tokenizer", Old)
    assert Tokeniser(path, 8, truncate=False).encode(["good"]) == [Tokens([2, 4, 3])]


def test_refuses_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer"):
        Tokeniser(tmp_path / "tokenizer.json", 8, truncate=False)


def test_refuses_a_length_without_room_for_a_token(path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"max_length is 2, but .* adds 2 special tokens"):
        Tokeniser(path, 2, truncate=True)
