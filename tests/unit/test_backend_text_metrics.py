"""Counting is cheap and later; nothing counted is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from backends.bert_text import metrics
from backends.bert_text.metrics import BUCKETS, COUNTERS, GAUGES, LABEL_VALUES, Metrics, Tally
from backends.bert_text.text_request import OUTCOMES
from backends.bert_text.texts import REASONS

LABELS = {"model": "sentiment", "version": "3"}


class Triton:
    """Triton's side: values by name and labels."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, str]] = Counter()
        self.kinds: dict[str, str] = {}
        self.refusing = threading.Event()
        self.refused = threading.Event()
        self.counted = threading.Event()
        self.at_the_first: Callable[[], None] = lambda: None
        triton = self

        class MetricFamily:
            COUNTER, GAUGE = "counter", "gauge"

            def __init__(self, name: str, description: str, kind: str) -> None:
                assert description
                self.name = name
                triton.kinds[name] = kind

            def Metric(self, labels: dict[str, str]) -> Any:  # noqa: N802
                key = (self.name, ",".join(f"{name}={value}" for name, value in sorted(labels.items())))
                triton.values[key] += 0

                def increment(value: float) -> None:
                    if triton.refusing.is_set():
                        triton.refused.set()
                        raise RuntimeError("Failed to increase the shared memory pool size")
                    if not triton.counted.is_set():
                        triton.at_the_first()
                        triton.counted.set()
                    triton.values[key] += value  # type: ignore[assignment]

                return SimpleNamespace(increment=increment)

        self.pb_utils = SimpleNamespace(MetricFamily=MetricFamily)


def tally(*counts: tuple[str, int, str]) -> Tally:
    made = Tally()
    for name, amount, label in counts:
        made.count(name, amount, label)
    return made


def test_every_metric_is_there_from_the_start_with_its_labels() -> None:
    triton = Triton()
    Metrics(triton.pb_utils, LABELS).close()
    assert triton.kinds == {**dict.fromkeys(COUNTERS, "counter"), **dict.fromkeys(GAUGES, "gauge")}
    assert (metrics.TEXTS, "model=sentiment,version=3") in triton.values
    for name, (label, values) in LABEL_VALUES.items():
        labels = {",".join(sorted([f"{label}={value}", "model=sentiment", "version=3"])) for value in values}
        assert {found for counted, found in triton.values if counted == name} == labels


def test_counts_arrive_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.01)
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    for _ in range(3):
        counted.add(tally((metrics.TEXTS, 2, ""), (metrics.REJECTED, 1, REASONS[0])))
        time.sleep(0.03)
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 6
    counted.close()
    assert triton.values[metrics.REJECTED, f"model=sentiment,reason={REASONS[0]},version=3"] == 3


def test_nothing_that_many_threads_count_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.0)
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)

    def count() -> None:
        for _ in range(2000):
            counted.add(tally((metrics.TEXTS, 1, "")))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline_s = time.monotonic() + 10
    while triton.values[metrics.TEXTS, "model=sentiment,version=3"] < 8000 and time.monotonic() < deadline_s:
        time.sleep(0.01)  # told without anything else being counted, or the metrics being closed
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 8000
    counted.close()


def test_answered_requests_become_a_histogram() -> None:
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    answered = Tally()
    for duration_us in (0, 5_000, 5_001, 499_999, 500_000, 500_001, 3_600_000_000):
        answered.answered(duration_us)
    counted.add(answered)
    counted.add(tally((metrics.REQUESTS, 2, "queue_full")))
    counted.close()
    buckets = {le: triton.values[metrics.DURATION_BUCKET, f"le={le},model=sentiment,version=3"] for le in BUCKETS}
    assert buckets["0.005"] == 2
    assert buckets["0.01"] == buckets["0.25"] == 3
    assert buckets["0.5"] == 5
    assert buckets["1"] == buckets["10"] == 6
    assert buckets["+Inf"] == 7
    assert triton.values[metrics.DURATION_COUNT, "model=sentiment,version=3"] == 7
    assert triton.values[metrics.DURATION_SUM, "model=sentiment,version=3"] == pytest.approx(3601.510001)
    assert triton.values[metrics.REQUEST_US, "model=sentiment,version=3"] == 3_601_510_001
    outcomes = {
        outcome: triton.values[metrics.REQUESTS, f"model=sentiment,outcome={outcome},version=3"] for outcome in OUTCOMES
    }
    assert {outcome: count for outcome, count in outcomes.items() if count} == {"answered": 7, "queue_full": 2}


def test_what_triton_refuses_to_count_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.0)
    triton = Triton()
    triton.refusing.set()
    counted = Metrics(triton.pb_utils, LABELS)
    counted.add(tally((metrics.TEXTS, 2, ""), (metrics.TOKENS, 9, "")))
    assert triton.refused.wait(10)
    triton.refusing.clear()
    counted.add(tally((metrics.TEXTS, 1, "")))
    counted.close()
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 3
    assert triton.values[metrics.TOKENS, "model=sentiment,version=3"] == 9


def test_what_is_counted_while_it_closes_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.0)
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    closing = threading.Thread(target=counted.close)

    def count_and_close() -> None:
        counted.add(tally((metrics.TEXTS, 5, "")))
        closing.start()
        closing.join(0.1)  # it waits for the flusher, which is here

    triton.at_the_first = count_and_close
    counted.add(tally((metrics.TEXTS, 2, "")))
    assert triton.counted.wait(10)
    closing.join(10)
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 7


def test_closing_loses_nothing_and_takes_the_cache_out() -> None:
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    counted.watch(metrics.CACHE_ENTRIES, lambda: 5)
    counted.add(tally((metrics.TEXTS, 7, "")))
    counted.close()
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 7
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 0


def test_the_caches_of_two_instances_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.01)
    triton = Triton()
    one, two = Metrics(triton.pb_utils, LABELS), Metrics(triton.pb_utils, LABELS)
    entries = {one: 3, two: 4}
    one.watch(metrics.CACHE_ENTRIES, lambda: entries[one])
    two.watch(metrics.CACHE_ENTRIES, lambda: entries[two])
    one.add(tally((metrics.TEXTS, 1, "")))
    two.add(tally((metrics.TEXTS, 1, "")))
    time.sleep(0.1)
    entries[two] = 6
    two.add(tally((metrics.TEXTS, 1, "")))
    time.sleep(0.1)
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 9
    one.close()
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 6
    two.close()
