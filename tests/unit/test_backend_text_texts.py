"""Which bytes are a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bert_text.texts import NO_TOKENS, NOT_UTF8, TOO_MANY_BYTES, BadText, read


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (b"", NO_TOKENS, "the text is empty"),
        (b" \t\r\n", NO_TOKENS, "its 4 bytes"),
        ("\u3000\u2028\u00a0".encode(), NO_TOKENS, "its 8 bytes"),
        (b"\x00\x01\x7f", NO_TOKENS, "its 3 bytes"),
        ("\u200b\u200e\ufeff".encode(), NO_TOKENS, "its 9 bytes"),
        (b"ab\xffcd", NOT_UTF8, "byte 0xff at position 2 of 5"),
        ("caf\u00e9".encode()[:-1], NOT_UTF8, "byte 0xc3 at position 3 of 4"),
        ("\ud800".encode("utf-8", "surrogatepass"), NOT_UTF8, "byte 0xed at position 0"),
        (b"a" * 101, TOO_MANY_BYTES, "101 bytes, of which this model takes 100"),
    ],
)
def test_refused(raw: bytes, reason: str, words: str) -> None:
    bad = read(raw, max_text_bytes=100)
    assert isinstance(bad, BadText)
    assert bad.reason == reason
    assert words in bad.message


@pytest.mark.parametrize("text", ["a", " a ", "a\x00b", "😀", "שלום עולם", "\u200bx", "\U0001fae0", "a" * 100])
def test_taken(text: str) -> None:
    assert read(text.encode(), max_text_bytes=1000) == text


@given(st.binary(max_size=50))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(read(raw, 40), (str, BadText))


@given(st.text(min_size=20, max_size=60))
def test_a_message_never_quotes_the_text(text: str) -> None:
    bad = read(text.encode() + b"\xff", 1000)
    assert isinstance(bad, BadText)
    assert text not in bad.message
