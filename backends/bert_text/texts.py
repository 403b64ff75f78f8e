"""Which texts are answered and which are refused, with the words for it.

A refused text fails its own request and nobody else's. The messages name sizes and positions and
never quote the text: texts are user data.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# Reasons, as the label of the metric bert_text_rejected_texts_total.
NOT_UTF8 = "not_utf8"
TOO_MANY_BYTES = "too_many_bytes"
NO_TOKENS = "no_tokens"
TOO_MANY_TOKENS = "too_many_tokens"
REASONS = (NOT_UTF8, TOO_MANY_BYTES, NO_TOKENS, TOO_MANY_TOKENS)

# Control and format characters, and the three kinds of separators (all of Unicode's white space).
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


@dataclass(frozen=True)
class BadText:
    """Why a text is refused: ``reason`` for the metric, ``message`` for the caller."""

    reason: str
    message: str


def read(raw: bytes, max_text_bytes: int) -> str | BadText:
    """``raw`` as a string, or why not."""
    if len(raw) > max_text_bytes:
        return BadText(
            TOO_MANY_BYTES,
            f"{len(raw)} bytes, of which this model takes {max_text_bytes} (max_text_bytes); shorten or split the text",
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return BadText(
            NOT_UTF8,
            f"not valid UTF-8: byte 0x{raw[error.start]:02x} at position {error.start} of {len(raw)}; "
            "send the text encoded as UTF-8",
        )
    # Byte-level tokenizers (RoBERTa) have tokens for white space, so this cannot wait for the tokens.
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        return no_tokens(len(raw))
    return text


def no_tokens(size_bytes: int) -> BadText:
    """Nothing in the text that the model could read."""
    what = f"nothing to read in its {size_bytes} bytes" if size_bytes else "the text is empty"
    return BadText(NO_TOKENS, f"{what}; expected at least one token that is not white space or a control character")


def too_many_tokens(tokens: int, max_length: int) -> BadText:
    """Longer than the model, and the config says that this is an error."""
    return BadText(
        TOO_MANY_TOKENS,
        f"{tokens} tokens, of which this model takes {max_length} (special tokens included); shorten or split the "
        'text, or export the model with over_long_text "truncate"',
    )
