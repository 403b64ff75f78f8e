"""Counting is cheap and later; nothing counted is lost."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from backends.bert_text import metrics
from backends.bert_text.metrics import COUNTERS, GAUGES, Metrics
from backends.bert_text.texts import REASONS

LABELS = {"model": "sentiment", "version": "3"}


class Triton:
    """Triton's side: values by name and labels."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, str]] = Counter()
        self.kinds: dict[str, str] = {}
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
                    triton.values[key] += value  # type: ignore[assignment]

                return SimpleNamespace(increment=increment)

        self.pb_utils = SimpleNamespace(MetricFamily=MetricFamily)


def test_every_metric_is_there_from_the_start_with_its_labels() -> None:
    triton = Triton()
    Metrics(triton.pb_utils, LABELS).close()
    assert triton.kinds == {**dict.fromkeys(COUNTERS, "counter"), **dict.fromkeys(GAUGES, "gauge")}
    assert {labels for name, labels in triton.values if name == metrics.REJECTED} == {
        f"model=sentiment,reason={reason},version=3" for reason in REASONS
    }
    assert (metrics.TEXTS, "model=sentiment,version=3") in triton.values


def test_counts_arrive_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.01)
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    for _ in range(3):
        counted.count(metrics.TEXTS, 2)
        counted.count(metrics.REJECTED, 1, REASONS[0])
        time.sleep(0.03)
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 6
    counted.close()
    assert triton.values[metrics.REJECTED, f"model=sentiment,reason={REASONS[0]},version=3"] == 3


def test_closing_loses_nothing_and_takes_the_cache_out() -> None:
    triton = Triton()
    counted = Metrics(triton.pb_utils, LABELS)
    counted.set(metrics.CACHE_ENTRIES, 5)
    counted.count(metrics.TEXTS, 7)
    counted.close()
    assert triton.values[metrics.TEXTS, "model=sentiment,version=3"] == 7
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 0


def test_the_caches_of_two_instances_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FLUSH_INTERVAL_S", 0.01)
    triton = Triton()
    one, two = Metrics(triton.pb_utils, LABELS), Metrics(triton.pb_utils, LABELS)
    one.set(metrics.CACHE_ENTRIES, 3)
    two.set(metrics.CACHE_ENTRIES, 4)
    two.set(metrics.CACHE_ENTRIES, 6)
    time.sleep(0.1)
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 9
    one.close()
    assert triton.values[metrics.CACHE_ENTRIES, "model=sentiment,version=3"] == 6
    two.close()
