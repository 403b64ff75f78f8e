"""What is suspected to hang and what is not: made-up pages of metrics on a made-up clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from server import hangs
from server.errors import OptionError
from server.hangs import LONGEST_GAP_S, LOOK_INTERVAL_S, MIN_LOOKS, Hangs, Suspect, text_models
from server.options import parse

TIMEOUT_S = 30.0
UNANSWERED = "answered nothing for 30 s though it was asked"
UNCOMPUTED = "computed nothing for 30 s though texts wait"


@dataclass(frozen=True)
class Counters:
    """What Triton shows of one version of a text model."""

    model: str = "sentiment"
    version: str = "1"
    success: int = 100
    failed: int = 0
    pending: int = 0
    answered: int = 100
    timed_out: int = 0
    queue_full: int = 0
    executions: int = 50
    rejected: int = 0
    waiting: int = 0

    def page(self) -> str:
        labels = f'model="{self.model}",version="{self.version}"'
        label, version = labels.split(",")
        return f"""
# TYPE nv_inference_request_success counter
nv_inference_request_success{{{labels}}} {self.success}
nv_inference_request_failure{{{label},reason="BACKEND",{version}}} {self.failed}
nv_inference_request_failure{{{label},reason="REJECTED",{version}}} 0
nv_inference_pending_request_count{{{labels}}} {self.pending}
bert_text_requests_total{{{label},outcome="answered",{version}}} {self.answered}
bert_text_requests_total{{{label},outcome="timed_out",{version}}} {self.timed_out}
bert_text_requests_total{{{label},outcome="queue_full",{version}}} {self.queue_full}
bert_text_executions_total{{{labels}}} {self.executions}
bert_text_rejected_texts_total{{{label},reason="too_many_tokens",{version}}} {self.rejected}
bert_text_waiting_texts{{{labels}}} {self.waiting}
"""


@dataclass
class Looks:
    """Looks at one page after another, two seconds apart."""

    rule: Hangs = field(default_factory=lambda: Hangs(TIMEOUT_S))
    now_s: float = 1000.0

    def __call__(self, *models: Counters, page: str | None = "") -> list[Suspect]:
        self.now_s += LOOK_INTERVAL_S
        return self.rule.look("".join(model.page() for model in models) or page, self.now_s)

    def first(self, seconds: float, at: Callable[[float], Counters]) -> tuple[float, str] | None:
        """What is suspected first, and after how long, of a model that shows ``at(elapsed)``."""
        began_s = self.now_s
        while (elapsed_s := self.now_s - began_s) < seconds:
            if suspects := self(at(elapsed_s)):
                assert suspects[0].model == ("sentiment", "1")
                return self.now_s - began_s, suspects[0].fault
        return None


WELL = Counters()


def test_a_page_is_read_by_model_and_version() -> None:
    tensors = 'nv_inference_request_success{model="sentiment_int8",version="1"} 7\nnv_cpu_utilization 0.1\n'
    models = text_models(WELL.page() + replace(WELL, version="2", success=1).page() + tensors)
    assert list(models) == [("sentiment", "1"), ("sentiment", "2")]
    assert models["sentiment", "1"]["nv_inference_request_success"] == 100
    assert models["sentiment", "2"]["nv_inference_request_success"] == 1
    assert models["sentiment", "1"]["bert_text_requests_total{answered}"] == 100


def test_large_numbers_and_several_devices_are_read() -> None:
    names = ("nv_inference_request_success", "bert_text_executions_total")
    lines = (f'{name}{{gpu="{gpu}",model="m",version="1"}} 1.5e+06' for name in names for gpu in range(2))
    assert text_models("\n".join(lines)) == {("m", "1"): dict.fromkeys(names, 3e6)}


# --- What hangs ---


def test_a_stopped_process_is_suspected() -> None:
    """Each request fails after a second, and nothing else is counted."""
    looks = Looks()
    looks(WELL)
    found = looks.first(60, lambda elapsed_s: replace(WELL, failed=1 + int(elapsed_s)))
    assert found == (TIMEOUT_S + LOOK_INTERVAL_S, f"version 1 of text model sentiment has {UNANSWERED}")


def test_a_process_stuck_in_python_is_suspected() -> None:
    looks = Looks()
    looks(WELL)
    found = looks.first(60, lambda _: replace(WELL, pending=1))
    assert found is not None
    assert UNANSWERED in found[1]


@pytest.mark.parametrize("counted", ["success", "timed_out", "queue_full", "answered"])
def test_stuck_threads_are_suspected_though_requests_come_in_and_are_refused(counted: str) -> None:
    """Others than they take requests in, answer known texts, and say that the queue is full or that it is too late."""
    looks = Looks()
    looks(WELL)
    found = looks.first(60, lambda elapsed_s: replace(WELL, waiting=3, **{counted: 200 + int(elapsed_s)}))
    assert found is not None
    assert UNCOMPUTED in found[1]


def test_rare_requests_that_all_fail_are_suspected() -> None:
    looks = Looks()
    looks(WELL)
    assert looks.first(60, lambda elapsed_s: replace(WELL, failed=1 + int(elapsed_s) // 12))


def test_a_triton_without_metrics_is_suspected_until_it_has_some() -> None:
    looks = Looks()
    looks(WELL)
    silent = [looks(page=None) for _ in range(int(TIMEOUT_S / LOOK_INTERVAL_S) + 1)]
    assert silent[:-1] == [[]] * (len(silent) - 1)
    assert silent[-1] == [Suspect(None, "tritonserver has not answered for 30 s")]
    assert looks(WELL) == looks(page=None) == []


def test_each_version_of_each_model_counts_for_itself() -> None:
    looks = Looks()
    stuck = Counters("stuck", version="2", pending=1)
    for number in range(20):
        suspects = looks(replace(WELL, pending=1, success=number), stuck, replace(stuck, version="1", pending=0))
    assert [suspect.model for suspect in suspects] == [("stuck", "2")]


def test_what_stays_wrong_stays_suspected() -> None:
    looks = Looks()
    looks(WELL)
    assert looks.first(60, lambda _: replace(WELL, pending=1))
    assert looks(replace(WELL, pending=1))
    assert looks(replace(WELL, success=101)) == []


def test_a_short_timeout_takes_several_looks_all_the_same() -> None:
    looks = Looks(Hangs(0.1))
    found = [looks(replace(WELL, pending=1)) for _ in range(MIN_LOOKS + 1)]
    assert [bool(suspects) for suspects in found] == [False] * MIN_LOOKS + [True]


# --- What does not ---


@pytest.mark.parametrize("counted", ["success", "answered", "executions", "timed_out"])
def test_who_makes_progress_does_not_hang(counted: str) -> None:
    """Overload, requests that are refused, and a full /dev/shm, where large requests fail and others are answered."""

    def busy(elapsed_s: float) -> Counters:
        often, seldom = int(elapsed_s), int(elapsed_s) // 20  # the timeout is longer than that
        return replace(WELL, pending=5, failed=often, **{counted: 200 + seldom})

    assert Looks().first(300, busy) is None


@pytest.mark.parametrize("counted", ["executions", "rejected"])
def test_a_long_queue_that_moves_does_not_hang(counted: str) -> None:
    assert Looks().first(300, lambda s: replace(WELL, waiting=900, **{counted: 200 + int(s) // 20})) is None


def test_who_is_not_asked_does_not_hang() -> None:
    assert Looks().first(300, lambda _: WELL) is None


def test_requests_that_failed_before_the_last_progress_are_over() -> None:
    looks = Looks()
    looks(WELL)
    looks(replace(WELL, failed=9))
    looks(replace(WELL, failed=9, success=101))
    assert looks.first(300, lambda _: replace(WELL, failed=9, success=101)) is None


def test_waiting_now_and_then_is_not_waiting_all_the_time() -> None:
    looks = Looks()
    looks(WELL)
    assert looks.first(300, lambda elapsed_s: replace(WELL, pending=1 if elapsed_s % 20 else 0)) is None


def test_a_model_that_was_loaded_anew_begins_anew() -> None:
    looks = Looks()
    looks(WELL)
    almost_s = TIMEOUT_S - LOOK_INTERVAL_S
    assert looks.first(almost_s, lambda _: replace(WELL, pending=1)) is None
    anew = Counters(success=0, answered=0, executions=0, pending=1)
    assert looks.first(almost_s, lambda _: anew) is None
    assert looks() == []  # it is unloaded
    assert looks.first(almost_s, lambda _: anew) is None


def test_what_is_left_of_a_version_that_was_unloaded_does_not_hang() -> None:
    left = [line for line in replace(WELL, waiting=3).page().splitlines() if "request_success" not in line]
    looks = Looks()
    looks(WELL)
    for _ in range(100):
        assert looks(page="\n".join(left)) == []


def test_after_a_time_in_which_nobody_looked_everything_begins_anew() -> None:
    """The machine, or the container, stood still."""
    looks = Looks()
    almost_s = TIMEOUT_S - LOOK_INTERVAL_S
    assert looks.first(almost_s, lambda _: replace(WELL, pending=1)) is None
    looks.now_s += LONGEST_GAP_S
    assert looks.first(almost_s, lambda _: replace(WELL, pending=1)) is None
    for _ in range(10):
        looks(page=None)
    looks.now_s += TIMEOUT_S
    assert looks(page=None) == []


# --- The option ---


def test_the_timeout_is_an_option_and_can_be_none() -> None:
    assert parse([], {}).hang_timeout_s == hangs.HANG_TIMEOUT_S
    assert parse(["--hang-timeout-s=0"], {"BERT_TRITON_HANG_TIMEOUT_S": "5"}).hang_timeout_s == 0
    assert parse([], {"BERT_TRITON_HANG_TIMEOUT_S": "2.5"}).hang_timeout_s == 2.5


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "soon"])
def test_a_timeout_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(OptionError, match=f"--hang-timeout-s is '{value}', expected seconds, 0 or more"):
        parse([f"--hang-timeout-s={value}"], {})
