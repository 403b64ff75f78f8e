"""Texts to token ids, a whole batch at a time, with Hugging Face's ``tokenizers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .texts import BadText, no_tokens, too_many_tokens


class TokenizerError(ValueError):
    """tokenizer.json cannot be used."""


@dataclass(frozen=True)
class Tokens:
    """A text as token ids, special tokens included."""

    ids: list[int]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class Tokeniser:
    """Encodes texts as the model's own tokenizer does, without padding.

    Args:
        path: tokenizer.json.
        max_length: most tokens of one text, special tokens included.
        truncate: cut over-long texts (keeping the special tokens) instead of refusing them.

    Raises:
        TokenizerError: the file is missing or not a tokenizer, or ``max_length`` leaves no room for a token.
    """

    def __init__(self, path: Path, max_length: int, *, truncate: bool) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # `tokenizers` raises plain Exception
            raise TokenizerError(f"{path} is not a tokenizer that tokenizers can read: {error}") from error
        self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= self._special_tokens:
            raise TokenizerError(
                f"max_length is {max_length}, but {path} adds {self._special_tokens} special tokens to every text"
            )
        self._max_length = max_length
        self._tokenizer.no_padding()
        if truncate:
            self._tokenizer.enable_truncation(max_length)
        else:
            self._tokenizer.no_truncation()
        # The fast one leaves out character offsets, which nothing here needs; tokenizers < 0.20 has only the other.
        self._encode_batch = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)

    def encode(self, texts: Sequence[str]) -> list[Tokens | BadText]:
        """Token ids of each text, or why it has none. Releases the GIL; uses the cores `tokenizers` may use."""
        return [
            self._tokens(text, encoding) for text, encoding in zip(texts, self._encode_batch(list(texts)), strict=True)
        ]

    def _tokens(self, text: str, encoding: Any) -> Tokens | BadText:
        ids: list[int] = encoding.ids
        if len(ids) <= self._special_tokens:
            return no_tokens(len(text.encode()))
        if len(ids) > self._max_length:
            return too_many_tokens(len(ids), self._max_length)
        # What was cut off is in `overflowing`; asking builds objects, so only ask when the text is as long as can be.
        return Tokens(ids, truncated=len(ids) == self._max_length and bool(encoding.overflowing))
