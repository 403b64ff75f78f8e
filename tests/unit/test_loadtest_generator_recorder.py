"""Which calls become samples of the window, and what of them."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.generator.recorder import UNFINISHED, Recorder, Window
from loadtest.samples import ANSWERED

WINDOW = Window(100.0, 110.0)


def call(recorder: Recorder, begin_s: float, end_s: float, failure: str | None = None, *, late_s: float = 0.0) -> None:
    ticket = recorder.begun(begin_s, begin_s + late_s, 50)
    recorder.ended(ticket, begin_s, end_s, failure, f"message of {failure}")


def test_calls_belong_to_the_window_by_their_begin_and_keep_their_full_latency() -> None:
    recorder = Recorder()
    call(recorder, 99.9, 100.5)
    call(recorder, 100.0, 101.0)
    call(recorder, 109.999, 115.0)
    call(recorder, 110.0, 110.1)
    samples, unfinished = recorder.samples(WINDOW, 120.0)
    assert samples.begin_s == pytest.approx([0.0, 9.999])
    assert samples.latency_s == pytest.approx([1.0, 5.001])
    assert unfinished == 0


def test_throughput_counts_good_answers_that_came_inside_whenever_they_were_begun() -> None:
    recorder = Recorder()
    call(recorder, 99.0, 100.5)  # begun in the warm-up, answered inside
    call(recorder, 101.0, 102.0, "ServerFaultError")
    call(recorder, 109.0, 110.5)  # answered after the end
    call(recorder, 98.0, 99.0)
    samples, _ = recorder.samples(WINDOW, 120.0)
    assert samples.ends_s == pytest.approx([0.5])
    assert len(samples.begin_s) == 2


def test_failures_have_their_kind_and_one_message_each() -> None:
    recorder = Recorder()
    for failure in ("ServerFaultError", None, "OverloadedError", "ServerFaultError"):
        call(recorder, 101.0, 102.0, failure)
    samples, _ = recorder.samples(WINDOW, 120.0)
    names = ["" if kind == ANSWERED else samples.failure_kinds[kind - 1] for kind in samples.kind]
    assert names == ["ServerFaultError", "", "OverloadedError", "ServerFaultError"]
    assert recorder.failure_examples["OverloadedError"] == "message of OverloadedError"
    assert (recorder.answered, recorder.failed) == (1, 3)


def test_a_call_without_an_end_is_a_failure_that_has_waited_so_long() -> None:
    recorder = Recorder()
    call(recorder, 101.0, 102.0)
    ticket = recorder.begun(105.0, 105.0, 50)
    recorder.begun(111.0, 111.0, 50)  # of the cool-down: nobody's business
    assert recorder.under_way(WINDOW) == 1
    samples, unfinished = recorder.samples(WINDOW, 120.0)
    assert unfinished == 1
    assert samples.latency_s == pytest.approx([1.0, 15.0])
    assert samples.failure_kinds[samples.kind[1] - 1] == UNFINISHED
    recorder.ended(ticket, 105.0, 121.0, None, "")
    assert recorder.under_way(WINDOW) == 0


def test_latency_and_membership_count_from_the_intended_send_time() -> None:
    recorder = Recorder()
    call(recorder, 109.9, 110.7, late_s=0.3)
    recorder.missed(105.0)
    recorder.missed(111.0)
    samples, _ = recorder.samples(WINDOW, 120.0)
    assert samples.latency_s == pytest.approx([0.8])
    assert recorder.send_lags_s(WINDOW) == pytest.approx([0.3])
    assert recorder.missed_sends(WINDOW) == 1
    assert recorder.mean_request_bytes(WINDOW) == 50


def test_nothing_at_all_is_empty_samples() -> None:
    samples, unfinished = Recorder().samples(WINDOW, 120.0)
    assert len(samples.begin_s) == len(samples.ends_s) == unfinished == 0
    assert samples.kind.dtype == np.uint8
    assert Recorder().mean_request_bytes(WINDOW) == 0
