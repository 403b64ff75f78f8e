"""Triton custom metrics of a text model, at ``/metrics`` beside Triton's own.

Counting is an addition; telling Triton costs a round trip to the server process, so a thread
does that a fraction of a second later, for everything counted since. Several instances of a model
add to the same metrics.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Protocol

from .texts import REASONS

FLUSH_INTERVAL_S = 0.2

COUNTERS = {
    "bert_text_texts_total": "Texts received",
    "bert_text_rejected_texts_total": "Texts refused, by reason",
    "bert_text_truncated_texts_total": "Texts answered from their first max_length tokens",
    "bert_text_cache_hits_total": "Texts answered without computing them again (cache, or computed for another)",
    "bert_text_cache_misses_total": "Texts computed because the cache had no answer",
    "bert_text_tokens_total": "Tokens sent to the tensor model, padding left out",
    "bert_text_padding_tokens_total": "Padding tokens sent to the tensor model",
    "bert_text_executions_total": "Calls of the tensor model",
    "bert_text_executed_texts_total": "Texts sent to the tensor model",
    "bert_text_queue_duration_us_total": "Microseconds that executed texts waited for their execution, summed",
    "bert_text_request_duration_us_total": "Microseconds from arrival to answer of answered requests, summed",
}
GAUGES = {
    "bert_text_cache_entries": "Texts in the cache",
    "bert_text_waiting_texts": "Texts that wait for an execution",
}

TEXTS = "bert_text_texts_total"
REJECTED = "bert_text_rejected_texts_total"
TRUNCATED = "bert_text_truncated_texts_total"
CACHE_HITS = "bert_text_cache_hits_total"
CACHE_MISSES = "bert_text_cache_misses_total"
CACHE_ENTRIES = "bert_text_cache_entries"
WAITING_TEXTS = "bert_text_waiting_texts"
TOKENS = "bert_text_tokens_total"
PADDING_TOKENS = "bert_text_padding_tokens_total"
EXECUTIONS = "bert_text_executions_total"
EXECUTED_TEXTS = "bert_text_executed_texts_total"
QUEUE_US = "bert_text_queue_duration_us_total"
REQUEST_US = "bert_text_request_duration_us_total"

# A metric's key: its name and, for REJECTED, the reason.
Key = tuple[str, str]


class Metric(Protocol):
    """What Triton gives out for one metric and set of labels."""

    def increment(self, value: float) -> None:
        """Add ``value``."""


class Metrics:
    """Counts of one model instance.

    Args:
        pb_utils: ``triton_python_backend_utils``.
        labels: labels of every metric (model, version).
    """

    def __init__(self, pb_utils: Any, labels: dict[str, str]) -> None:
        # A family must outlive its metrics, so both are kept.
        self._families: list[Any] = []
        self._metrics: dict[Key, Metric] = {}
        for kind, table in ((pb_utils.MetricFamily.COUNTER, COUNTERS), (pb_utils.MetricFamily.GAUGE, GAUGES)):
            for name, description in table.items():
                family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
                self._families.append(family)
                for reason in REASONS if name == REJECTED else ("",):
                    more = {"reason": reason} if reason else {}
                    self._metrics[name, reason] = family.Metric(labels={**labels, **more})
        self._lock = threading.Lock()
        self._pending: Counter[Key] = Counter()
        self._gauges: dict[str, int] = dict.fromkeys(GAUGES, 0)
        self._counted = threading.Event()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_until_closed, name="bert_text metrics", daemon=True)
        self._flusher.start()

    def count(self, name: str, amount: int = 1, reason: str = "") -> None:
        """Add to a counter."""
        if amount:
            with self._lock:
                self._pending[name, reason] += amount
            self._counted.set()

    def set(self, name: str, value: int) -> None:
        """Say how much this instance has of a gauge; instances of a model add up."""
        with self._lock:
            self._pending[name, ""] += value - self._gauges[name]
            self._gauges[name] = value
        self._counted.set()

    def close(self) -> None:
        """Tell Triton what is still untold; this instance's cache and queue are gone from now on."""
        for name in GAUGES:
            self.set(name, 0)
        self._closed.set()
        self._counted.set()
        self._flusher.join(timeout=5)

    def _flush_until_closed(self) -> None:
        while not self._closed.is_set():
            self._counted.wait()
            self._closed.wait(FLUSH_INTERVAL_S)
            self._counted.clear()
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, Counter()
        for key, amount in pending.items():
            if amount:
                self._metrics[key].increment(amount)
