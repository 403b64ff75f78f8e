"""Texts into chunks, deadlines, pauses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_triton_client import ClientConfig, InvalidTextError
from bert_triton_client.planning import Chunk, Deadline, Planner, retry_pause_s


@given(st.lists(st.text(alphabet="aü", max_size=12)), st.integers(1, 5), st.integers(1, 20))
def test_chunks_hold_every_text_once_in_order_and_within_both_limits(texts: list[str], count: int, size: int) -> None:
    chunks = list(Planner(count, size).split(texts))
    assert [text for chunk in chunks for text in chunk.texts] == [text.encode() for text in texts]
    start = 0
    for chunk in chunks:
        assert chunk.start == start
        start += len(chunk.texts)
        assert 1 <= len(chunk.texts) <= count
        bytes_of = sum(len(text) for text in chunk.texts if isinstance(text, bytes))
        assert bytes_of <= size or len(chunk.texts) == 1


def test_chunks_are_as_full_as_they_may_be() -> None:
    assert [len(chunk.texts) for chunk in Planner(4, 100).split("abcdefghi")] == [4, 4, 1]
    assert [len(chunk.texts) for chunk in Planner(4, 2).split(["aaa", "a", "a", "a"])] == [1, 2, 1]


def test_the_planner_reads_no_further_than_it_must() -> None:
    def texts() -> Any:
        yield from ("a", "b", "c")
        pytest.fail("read ahead")

    assert next(Planner(2, 100).split(texts())) == Chunk(0, (b"a", b"b"))


@pytest.mark.parametrize(
    ("text", "says"), [("\ud800", "UTF-8"), (None, "is a NoneType"), (1.5, "is a float"), (b"x", "is a bytes")]
)
def test_what_is_no_text_is_an_error_in_its_place(text: Any, says: str) -> None:
    (chunk,) = Planner(5, 100).split(["a", text, "b"])
    error = chunk.texts[1]
    assert isinstance(error, InvalidTextError)
    assert error.index == 1
    assert says in error.reason
    assert (chunk.texts[0], chunk.texts[2]) == (b"a", b"b")


def test_a_deadline_counts_down() -> None:
    now = 10.0
    deadline = Deadline(2.0, lambda: now)
    assert deadline.remaining_s() == 2.0
    now = 12.5
    assert deadline.remaining_s() == -0.5
    assert str(deadline.exceeded("model 'm'")) == "model 'm': no answer within 2 s"


def test_pauses_double_up_to_the_bound_and_are_drawn_from_the_whole_range() -> None:
    config = ClientConfig("grpc://localhost", backoff_initial_s=0.1, backoff_max_s=1.0)
    longest = [retry_pause_s(config, attempt, lambda: 1.0) for attempt in range(6)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert retry_pause_s(config, 5000, lambda: 1.0) == 1.0
    assert retry_pause_s(config, 3, lambda: 0.0) == 0.0
