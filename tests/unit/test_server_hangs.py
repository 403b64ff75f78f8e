"""What counts as hanging and what does not: made-up pages of metrics on a made-up clock, and a made-up Triton."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import pytest

from server import hangs, watchdog
from server.endpoints import Endpoints
from server.errors import OptionError
from server.hangs import LONGEST_GAP_S, LOOK_INTERVAL_S, MIN_LOOKS, Hangs, HangWatch, Suspect, text_models
from server.options import parse
from server.readiness import Probe
from server.watchdog import Watch

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


# --- The suspect is asked ---


class Triton:
    """Answers what `HangWatch` asks, or does not."""

    def __init__(self) -> None:
        self.page: str = WELL.page()
        self.answers: dict[str, bool] = {"/metrics": True, "/v2": True, "/infer": True}
        self.asked: list[str] = []
        self.texts: set[str] = set()
        triton = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(triton.page if self.path == "/metrics" else '{"version": "2.51.0"}')

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                triton.texts.add(body["inputs"][0]["data"][0])
                self._answer("{}")

            def _answer(self, body: str) -> None:
                triton.asked.append(self.path)
                willing = next(willing for end, willing in triton.answers.items() if self.path.endswith(end))
                self.send_response(HTTPStatus.OK if willing else HTTPStatus.INTERNAL_SERVER_ERROR)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    # What `HangWatch` reads of a TritonServer.
    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(metrics_port=self.http.server_port)

    @property
    def probe(self) -> Probe:
        return Probe("127.0.0.1", self.http.server_port)


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Triton]:
    monkeypatch.setattr(hangs, "LOOK_INTERVAL_S", 0.01)
    triton = Triton()
    yield triton
    triton.http.shutdown()
    triton.http.server_close()


@pytest.fixture
def watch(triton: Triton) -> Iterator[HangWatch]:
    watch = HangWatch(triton, 0.1)  # type: ignore[arg-type]
    yield watch
    watch.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_suspect_that_answers_does_not_hang(triton: Triton, watch: HangWatch) -> None:
    """Triton's count of pending requests is wrong, say, or one large request failed and then there was silence."""
    triton.page = replace(WELL, pending=1, failed=1).page()
    eventually(lambda: triton.asked.count("/v2/models/sentiment/versions/1/infer") > MIN_LOOKS)
    assert len(triton.texts) > 1, "a text that is known comes out of a cache"
    assert watch.fault is None


def test_a_suspect_that_does_not_answer_hangs_until_it_works_again(triton: Triton, watch: HangWatch) -> None:
    triton.answers["/infer"] = False
    triton.page = replace(WELL, pending=1).page()
    eventually(lambda: "answered nothing" in (watch.fault or ""))
    triton.page = replace(WELL, success=101).page()
    eventually(lambda: watch.fault is None)


def test_a_triton_that_only_lacks_metrics_does_not_hang(triton: Triton, watch: HangWatch) -> None:
    triton.answers["/metrics"] = False
    eventually(lambda: triton.asked.count("/v2") > MIN_LOOKS)
    assert watch.fault is None
    triton.answers["/v2"] = False
    eventually(lambda: (watch.fault or "").startswith("tritonserver has not answered"))


def test_nobody_looks_any_more_once_it_is_closed(triton: Triton, watch: HangWatch) -> None:
    eventually(lambda: len(triton.asked) > 1)
    watch.close()
    eventually(lambda: all(thread.name != "hang-watch" for thread in threading.enumerate()))


# --- Who watches ---


class FakeServer:
    """What `Watch` asks a TritonServer."""

    def __init__(self, *, metrics: bool) -> None:
        self.pid, self.running, self.unhealthy, self.metrics = 1, True, "", metrics

    def serves(self, service: str) -> bool:
        return service == "metrics" and self.metrics


@dataclass
class FakeHangWatch:
    server: FakeServer
    timeout_s: float
    fault: str = "it hangs"
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[FakeHangWatch]:
    begun: list[FakeHangWatch] = []

    def begin(server: FakeServer, timeout_s: float) -> FakeHangWatch:
        begun.append(FakeHangWatch(server, timeout_s))
        return begun[-1]

    monkeypatch.setattr(watchdog, "HangWatch", begin)
    monkeypatch.setattr(watchdog, "zombie_backends", lambda pid: [])
    return begun


def test_each_tritonserver_is_watched_from_the_beginning(begun: list[FakeHangWatch]) -> None:
    server = FakeServer(metrics=True)
    watch = Watch(server, hang_timeout_s=5)  # type: ignore[arg-type]
    assert watch.fault() == watch.fault() == "it hangs"
    server.pid = 2
    assert watch.fault() == "it hangs"
    assert [hang_watch.closed for hang_watch in begun] == [True, False]
    watch.close()
    assert begun[1].closed


@pytest.mark.parametrize(("timeout_s", "metrics"), [(0.0, True), (5.0, False)])
def test_without_a_timeout_or_metrics_nobody_watches(
    begun: list[FakeHangWatch], timeout_s: float, metrics: bool
) -> None:
    watch = Watch(FakeServer(metrics=metrics), hang_timeout_s=timeout_s)  # type: ignore[arg-type]
    assert watch.fault() is None
    assert begun == []
    watch.close()


# --- The option ---


def test_the_timeout_is_an_option_and_can_be_none() -> None:
    assert parse([], {}).hang_timeout_s == hangs.HANG_TIMEOUT_S
    assert parse(["--hang-timeout-s=0"], {"BERT_TRITON_HANG_TIMEOUT_S": "5"}).hang_timeout_s == 0
    assert parse([], {"BERT_TRITON_HANG_TIMEOUT_S": "2.5"}).hang_timeout_s == 2.5


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "soon"])
def test_a_timeout_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(OptionError, match=f"--hang-timeout-s is '{value}', expected seconds, 0 or more"):
        parse([f"--hang-timeout-s={value}"], {})
