"""Requests to one run and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.onnxruntime.batching import decode_strings, encode_strings, feed, outputs_for_triton, split
from backends.onnxruntime.errors import RequestError
from backends.onnxruntime.graph import Tensor

X = Tensor("x", "TYPE_INT64", (-1, -1))
SCALAR = Tensor("s", "TYPE_INT64", ())


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_split_undoes_feed(rows: list[int]) -> None:
    requests = [{"x": np.full((count, 3), index)} for index, count in enumerate(rows)]
    joined = feed(requests, {"x": X})
    assert joined["x"].shape == (sum(rows), 3)
    for own, request in zip(split({"x": joined["x"]}, rows), requests, strict=True):
        assert own["x"].tolist() == request["x"].tolist()


def test_requests_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(RequestError, match="do not fit together"):
        feed([{"x": np.zeros((1, 3))}, {"x": np.zeros((1, 4))}], {"x": X})
    with pytest.raises(RequestError, match="do not fit together"):
        feed([{"x": np.zeros((1, 3))}, {}], {"x": X})


def test_an_output_without_the_batch_is_refused() -> None:
    with pytest.raises(RequestError, match=r"'y' has shape \[3\]; expected 2 rows"):
        split({"y": np.zeros(3)}, [1, 1])


def test_scalars_travel_as_one_element() -> None:
    assert feed([{"s": np.array([7])}], {"s": SCALAR})["s"].shape == ()
    assert outputs_for_triton([np.int64(7)], ["s"], {"s": SCALAR})["s"].tolist() == [7]


def test_strings_there_and_back() -> None:
    raw = np.array([["é".encode(), b"a\x00b"], [b"", b"x"]], dtype=object)
    texts = decode_strings(raw, "t")
    assert texts.tolist() == [["é", "a\x00b"], ["", "x"]]
    assert encode_strings(texts).tolist() == raw.tolist()


def test_a_string_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(RequestError, match="input 't' has a string that is not valid UTF-8"):
        decode_strings(np.array([b"\xff"], dtype=object), "t")
