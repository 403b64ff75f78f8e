"""The per-text cache against a list that does the same slowly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bert_text.cache import DIGEST_BYTES, TextCache, digest

STEPS = st.lists(st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 9)), max_size=200)


@given(STEPS, st.integers(0, 6))
def test_keeps_the_most_recently_used(steps: list[tuple[str, int]], size: int) -> None:
    cache: TextCache[int] = TextCache(size)
    recent: list[int] = []  # least recently used first; a key's value is ten times the key
    for step, key in steps:
        name = digest(str(key).encode())
        if step == "put":
            cache.put(name, key * 10)
        else:
            assert cache.get(name) == (key * 10 if key in recent else None)
        if step == "put" or key in recent:
            recent = [*(other for other in recent if other != key), key][-size:] if size else []
        assert len(cache) == len(recent) <= size


def test_size_0_keeps_nothing() -> None:
    cache: TextCache[int] = TextCache(0)
    cache.put(b"key", 1)
    assert cache.get(b"key") is None
    assert len(cache) == 0


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        TextCache(-1)


def test_keys_are_small_however_long_the_text() -> None:
    assert len(digest(b"a" * 1_000_000)) == DIGEST_BYTES
    assert digest(b"a") != digest(b"b")
