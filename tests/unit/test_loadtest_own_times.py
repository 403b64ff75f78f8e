"""A text model's own times take the place of what Triton sees of it."""

from __future__ import annotations

import pytest

from loadtest.cell import ModelCounters
from loadtest.server_side.counters import _with_own_times
from loadtest.server_side.exporter import TextCounts

SEEN_BY_TRITON = ModelCounters(
    model="sentiment",
    version="1",
    requests=10,
    failures=0,
    inferences=10,
    executions=10,
    queue_ms=0.01,
    compute_input_ms=0.02,
    compute_infer_ms=0.03,
    compute_output_ms=0.0,
    cache_hits=0,
)


def test_waiting_and_computing_as_the_text_model_counts_them() -> None:
    text = TextCounts(executions=2, executed_texts=8, queue_us=40_000, request_us=300_000)
    own = _with_own_times(SEEN_BY_TRITON, text)
    assert (own.queue_ms, own.compute_infer_ms) == pytest.approx((5.0, 25.0))
    assert (own.compute_input_ms, own.compute_output_ms) == (0.0, 0.0)
    assert own.mean_batch_size == 4.0


def test_the_queue_is_no_longer_than_the_request() -> None:
    text = TextCounts(executions=1, executed_texts=1, queue_us=90_000, request_us=100_000)  # nine were cached
    own = _with_own_times(SEEN_BY_TRITON, text)
    assert (own.queue_ms, own.compute_infer_ms) == pytest.approx((10.0, 0.0))


@pytest.mark.parametrize("text", [TextCounts(), TextCounts(cache_hits=10, executed_texts=0, queue_us=0, request_us=9)])
def test_without_counts_or_computed_texts_triton_is_right(text: TextCounts) -> None:
    assert _with_own_times(SEEN_BY_TRITON, text) is SEEN_BY_TRITON
