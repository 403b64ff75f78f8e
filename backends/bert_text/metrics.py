"""Triton custom metrics of a text model, at ``/metrics`` beside Triton's own.

Counting is an addition; telling Triton costs a round trip to the server process, so a thread
does that a fraction of a second later, for everything counted since. Several instances of a model
add to the same metrics.

Triton 2.51 has counters and gauges only. The histogram of request durations is made of counters, named as Prometheus
names the parts of one: ``_bucket{le}``, ``_sum`` and ``_count`` can be summed over models, versions and servers.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .text_request import OUTCOMES
from .texts import REASONS

FLUSH_INTERVAL_S = 0.2

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
COMPUTE_US = "bert_text_compute_duration_us_total"
REQUESTS = "bert_text_requests_total"
REQUEST_US = "bert_text_request_duration_us_total"
DURATION_BUCKET = "bert_text_request_duration_seconds_bucket"
DURATION_SUM = "bert_text_request_duration_seconds_sum"
DURATION_COUNT = "bert_text_request_duration_seconds_count"

COUNTERS = {
    TEXTS: "Texts received",
    REJECTED: "Texts refused, by reason",
    TRUNCATED: "Texts answered from their first max_length tokens",
    CACHE_HITS: "Texts answered without computing them again (cache, or computed for another)",
    CACHE_MISSES: "Texts computed because the cache had no answer",
    TOKENS: "Tokens sent to the tensor model, padding left out",
    PADDING_TOKENS: "Padding tokens sent to the tensor model",
    EXECUTIONS: "Calls of the tensor model",
    EXECUTED_TEXTS: "Texts sent to the tensor model",
    QUEUE_US: "Microseconds that executed texts waited for their execution, summed",
    COMPUTE_US: "Microseconds that calls of the tensor model took, summed",
    REQUESTS: "Requests, by what became of them",
    REQUEST_US: "Microseconds from arrival to answer of answered requests, summed",
    DURATION_BUCKET: "Answered requests that took at most le seconds from arrival to answer",
    DURATION_SUM: "Seconds from arrival to answer of answered requests, summed",
    DURATION_COUNT: "Answered requests",
}
GAUGES = {
    CACHE_ENTRIES: "Texts in the cache",
    WAITING_TEXTS: "Texts that wait for an execution",
}

# Upper bounds of the buckets of request durations; the gateway's histogram has the same, and alerts read le="0.5".
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
_BOUNDS_US = [round(float(bound) * 1e6) for bound in BUCKETS[:-1]]

# The label that a metric has beside those of the model, and its values.
LABEL_VALUES = {REJECTED: ("reason", REASONS), REQUESTS: ("outcome", OUTCOMES), DURATION_BUCKET: ("le", BUCKETS)}

# A metric's key: its name and, where it has a label of its own, the value of that.
Key = tuple[str, str]
Counts = Mapping[Key, int]


class Tally(defaultdict[Key, int]):
    """Counts on their way to `Metrics.add`: gathered by one thread, without a lock."""

    def __init__(self) -> None:
        super().__init__(int)

    def count(self, name: str, amount: int, label: str = "") -> None:
        """Add to a counter."""
        self[name, label] += amount

    def answered(self, duration_us: int) -> None:
        """A request that was answered. The rest of what is counted of it follows from this when Triton is told."""
        self[DURATION_BUCKET, BUCKETS[bisect_left(_BOUNDS_US, duration_us)]] += 1
        self[REQUEST_US, ""] += duration_us


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
                label, values = LABEL_VALUES.get(name, ("", ("",)))
                for value in values:
                    more = {label: value} if label else {}
                    self._metrics[name, value] = family.Metric(labels={**labels, **more})
        self._lock = threading.Lock()
        self._pending: Counter[Key] = Counter()
        self._untold: defaultdict[Key, float] = defaultdict(float)  # the flusher's own
        self._gauges: dict[str, Callable[[], int]] = {}
        self._told: Counter[str] = Counter()  # of each gauge
        self._counted = threading.Event()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_until_closed, name="bert_text metrics", daemon=True)
        self._flusher.start()

    def add(self, counts: Counts) -> None:
        """Add to counters; of a `Tally`, what is counted of an answered request is completed."""
        with self._lock:
            for key, amount in counts.items():
                self._pending[key] += amount
        # The flusher clears first and takes the counts then, so what was added before this look is not forgotten.
        if not self._counted.is_set():
            self._counted.set()

    def watch(self, name: str, read: Callable[[], int]) -> None:
        """Where to read how much this instance has of a gauge, after anything was counted; instances add up."""
        self._gauges[name] = read

    def close(self) -> None:
        """Tell Triton what is still untold; this instance's cache and queue are gone from now on."""
        self._gauges = dict.fromkeys(self._gauges, int)  # int() is 0
        self._closed.set()
        self._counted.set()
        self._flusher.join(timeout=5)

    def _flush_until_closed(self) -> None:
        while not self._closed.is_set():
            self._counted.wait()
            self._closed.wait(FLUSH_INTERVAL_S)
            self._counted.clear()
            self._try_to_flush()
        self._try_to_flush()  # what was counted after the last look

    def _try_to_flush(self) -> None:
        """Triton can refuse (a full /dev/shm); that must not end the counting. What is untold is told the next time."""
        with contextlib.suppress(Exception):
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, Counter()
        for key, amount in _completed(pending).items():
            self._untold[key] += amount
        for key in list(self._untold):
            if amount := self._untold[key]:
                self._metrics[key].increment(amount)
            del self._untold[key]
        for name, read in self._gauges.items():
            value = read()
            if value != self._told[name]:
                self._metrics[name, ""].increment(value - self._told[name])
                self._told[name] = value


def _completed(pending: Counter[Key]) -> dict[Key, float]:
    """Counts with what follows from the buckets: a request is in its own and in all wider ones."""
    completed: dict[Key, float] = dict(pending)
    answered = 0
    for le in BUCKETS:
        answered += pending[DURATION_BUCKET, le]
        completed[DURATION_BUCKET, le] = answered
    completed[DURATION_COUNT, ""] = completed[REQUESTS, "answered"] = answered
    completed[DURATION_SUM, ""] = pending[REQUEST_US, ""] / 1e6
    return completed
