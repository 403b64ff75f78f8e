"""Rows of ids as padded arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backends.bert_text.tensors import TENSOR_INPUTS, padded

ROWS = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=20), min_size=1, max_size=8)


@given(ROWS, st.integers(0, 5))
def test_the_mask_gives_back_the_rows(rows: list[list[int]], pad_token_id: int) -> None:
    arrays = padded(rows, TENSOR_INPUTS, pad_token_id)
    ids, mask = arrays["input_ids"], arrays["attention_mask"]
    assert ids.shape == mask.shape == arrays["token_type_ids"].shape == (len(rows), max(map(len, rows)))
    assert all(array.dtype == np.int64 for array in arrays.values())
    assert [ids[index][mask[index] == 1].tolist() for index in range(len(rows))] == rows
    assert (ids[mask == 0] == pad_token_id).all()
    assert not arrays["token_type_ids"].any()


def test_only_the_inputs_the_model_takes() -> None:
    assert list(padded([[1, 2]], ("input_ids", "attention_mask"), 0)) == ["input_ids", "attention_mask"]
