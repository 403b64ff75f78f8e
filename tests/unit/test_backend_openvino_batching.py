"""Requests to one run and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.openvino.batching import check_request, feed, split
from backends.openvino.errors import InferenceError, RequestError


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 3))
def test_split_undoes_feed(rows: list[int], missing: int) -> None:
    requests = [{"x": np.full((count, 3), index + 1)} for index, count in enumerate(rows)]
    batch_size = sum(rows) + missing
    joined = feed(requests, batch_size)
    assert joined["x"].shape == (batch_size, 3)
    assert not joined["x"][sum(rows) :].any()
    for own, request in zip(split(joined, rows, batch_size), requests, strict=True):
        assert own["x"].tolist() == request["x"].tolist()


def test_one_request_is_not_copied() -> None:
    array = np.zeros((2, 3))
    assert feed([{"x": array}])["x"] is array
    assert feed([{"x": array}], 2)["x"] is array
    assert split({"y": array}, [])[0]["y"] is array


def test_requests_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(RequestError, match="do not fit together"):
        feed([{"x": np.zeros((1, 3))}, {"x": np.zeros((1, 4))}], 2)
    with pytest.raises(RequestError, match="do not fit together"):
        feed([{"x": np.zeros((1, 3))}, {}], 2)


def test_an_output_without_the_batch_is_refused() -> None:
    with pytest.raises(InferenceError, match=r"batch size of output 'y' to be 2, got shape \[3\]"):
        split({"y": np.zeros(3)}, [1, 1], 2)


def test_requests_that_are_not_whole_are_refused() -> None:
    check_request({"x": np.zeros(1)}, ["x"])
    with pytest.raises(RequestError, match="input 'y' is missing"):
        check_request({"x": np.zeros(1)}, ["x", "y"])
    with pytest.raises(RequestError, match=r"input 'x' is empty \(shape \[2, 0\]\)"):
        check_request({"x": np.zeros((2, 0))}, ["x"])
