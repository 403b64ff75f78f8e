"""When another call of the tensor model would compute."""

from __future__ import annotations

from backends.bert_text.calls import LAST, Calls


def test_an_idle_instance_computes_at_once() -> None:
    calls = Calls(2)
    assert calls.next_start_s(5.0) == 5.0
    calls.begin(100, 5.0)
    assert calls.idle == 1
    assert calls.next_start_s(6.0) == 6.0


def test_the_next_waits_for_the_first_that_ends_and_who_waits_before_it() -> None:
    calls = Calls(2)
    calls.end(calls.begin(10, 0.0), 1.0)  # 0.1 s a token
    calls.begin(50, 1.0)
    calls.begin(20, 2.0)
    assert calls.idle == 0
    assert calls.next_start_s(2.5) == 4.0
    calls.begin(5, 2.5)
    assert calls.next_start_s(2.5) == 6.0
    assert calls.next_start_s(7.0) == 7.0, "later than was thought: any moment"


def test_waiting_is_no_part_of_how_long_a_call_takes() -> None:
    calls = Calls(1)
    first, second = calls.begin(10, 0.0), calls.begin(10, 0.0)
    calls.end(first, 1.0)
    calls.end(second, 2.0)
    calls.begin(10, 2.0)
    assert calls.next_start_s(2.0) == 3.0


def test_the_slowest_of_the_last_calls_counts() -> None:
    calls = Calls(1)
    calls.end(calls.begin(10, 0.0), 10.0)
    for _ in range(LAST - 1):
        calls.end(calls.begin(10, 10.0), 11.0)
    slow = calls.begin(10, 20.0)
    assert calls.next_start_s(20.0) == 30.0
    calls.end(slow, 21.0)
    calls.begin(10, 30.0)
    assert calls.next_start_s(30.0) == 31.0


def test_a_call_that_ends_before_an_instance_was_free_says_nothing_of_times() -> None:
    calls = Calls(1)
    first, second = calls.begin(10, 0.0), calls.begin(1000, 0.0)
    calls.end(second, 0.1)
    calls.end(first, 1.0)
    calls.begin(10, 1.0)
    assert calls.next_start_s(1.0) == 2.0
