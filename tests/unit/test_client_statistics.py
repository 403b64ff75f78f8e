"""Statistics of a model: what was added between two readings."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import bert_triton_client as btc


def reading(requests: int, *, infer_ms: int, queue_ms: int, cache_hits: int = 0) -> btc.ModelStatistics:
    computed = requests - cache_hits
    pairs: dict[str, Any] = {
        "success": {"count": requests, "ns": 0},
        "fail": {"count": 1, "ns": 7},
        "queue": {"count": requests, "ns": queue_ms * 1_000_000},
        "compute_input": {"count": computed, "ns": computed * 1_000_000},
        "compute_infer": {"count": computed, "ns": infer_ms * 1_000_000},
        "compute_output": {"count": computed, "ns": computed * 2_000_000},
        "cache_hit": {"count": cache_hits, "ns": 0},
    }
    row = {
        "name": "m",
        "version": "3",
        "inference_count": 4 * requests,
        "execution_count": computed,
        "inference_stats": pairs,
    }
    (found,) = btc.ModelStatistics.from_json({"model_stats": [row]})
    return found


def test_what_was_added_has_means_of_its_own() -> None:
    added = reading(30, infer_ms=1100, queue_ms=70, cache_hits=10).since(reading(10, infer_ms=1000, queue_ms=50))
    assert (added.name, added.version) == ("m", "3")
    assert (added.requests, added.failures, added.inferences, added.executions) == (20, 0, 80, 10)
    assert added.cache_hits == 10
    assert added.queue_ms == added.queue.mean_ms == 1.0  # 20 ms of 20 requests
    assert added.compute_infer.mean_ms == 10.0  # 100 ms of the 10 that no cache answered
    assert (added.compute_input.mean_ms, added.compute_output.mean_ms) == (1.0, 2.0)
    assert added.compute_ms == 13.0
    assert added.mean_batch_size == 8.0


def test_nothing_added_is_zeros() -> None:
    one = reading(10, infer_ms=1000, queue_ms=50)
    added = one.since(one)
    assert (added.requests, added.inferences, added.queue_ms, added.compute_ms) == (0, 0, 0.0, 0.0)
    assert added.mean_batch_size == 0.0


def test_counters_that_went_down_are_an_error() -> None:
    earlier, later = reading(10, infer_ms=1000, queue_ms=50), reading(9, infer_ms=900, queue_ms=40)
    with pytest.raises(btc.UnexpectedAnswerError, match=r"'m' version 3: .* requests went down from 10 to 9: .* anew"):
        later.since(earlier)


def test_statistics_pickle_with_their_durations() -> None:
    one = reading(10, infer_ms=1000, queue_ms=50)
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert (again, again.queue) == (one, one.queue)
