"""Files, lines and messages between the processes of a load test."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bert_triton_client.answers import TensorInfo
from loadtest.access import Access
from loadtest.cell import CellSpec, GeneratorSide, TensorNames, TextSource, Workload
from loadtest.errors import GeneratorError, UsageError
from loadtest.generator import messages, outcome
from loadtest.generator.clock import Progress, may_end
from loadtest.generator.desk import Kept
from loadtest.generator.report import Report, combine
from loadtest.samples import Samples
from loadtest.target import InputTensor, Target
from loadtest.wire import Reply, Request

SPEC = CellSpec(
    id="capacity_m_b4_r12.5",
    series="capacity",
    url="grpc://host:1",
    model="m",
    batch_size=4,
    workload=Workload(rate_per_s=12.5),
    texts=TextSource(repeat_share=0.25, seed=3),
    names=TensorNames(outputs=("a", "b"), sequence_length=32),
)
TARGET = Target(
    url="grpc://host:1",
    model="m",
    version="2",
    kind="text",
    inputs=(InputTensor("TEXT", "BYTES", (1,), "text"),),
    outputs=(TensorInfo("LABEL", "BYTES", (1,)),),
    max_batch_size=8,
)
SIDE = GeneratorSide(2, 0.5, 0.9, 1.5, None, 0, 1, 32, 0, 170.5, "words: mean 21.4, p95 47")


def samples(begin_s: list[float], latency_s: list[float], kind: list[int], kinds: tuple[str, ...] = ()) -> Samples:
    ends = [begin + latency for begin, latency, each in zip(begin_s, latency_s, kind, strict=True) if each == 0]
    return Samples(
        np.array(begin_s, float), np.array(latency_s, float), np.array(kind, np.uint8), kinds, np.array(ends)
    )


def report(part: Samples, **values: object) -> Report:
    usual = {
        "duration_s": 10.0,
        "cpu_s": 2.0,
        "loop_lags_s": np.full(10, 0.001),
        "send_lags_s": np.full(len(part.begin_s), 0.002),
        "missed_sends": 1,
        "unfinished": 0,
        "mean_request_bytes": 100.0,
        "length_counts": {20: 3},
    }
    return Report(part, **{**usual, **values})  # type: ignore[arg-type]


def test_a_job_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    job = outcome.Job(SPEC, TARGET, outcome.Distributed("0.0.0.0", 5557, 3))  # noqa: S104
    outcome.write_job(tmp_path, job)
    assert outcome.read_job(tmp_path) == job
    assert job.processes == 3


def test_an_outcome_comes_back_from_its_files(tmp_path: Path) -> None:
    assert outcome.read_outcome(tmp_path) is None
    part = samples([0.0, 1.0], [0.5, 2.0], [0, 1], ("ServerFaultError",))
    outcome.write_outcome(tmp_path, outcome.Outcome(part, SIDE, {"ServerFaultError": "why"}, 10.5, True, "2026"))
    back = outcome.read_outcome(tmp_path)
    assert back is not None
    assert (back.side, back.duration_s, back.interrupted, back.started_at) == (SIDE, 10.5, True, "2026")
    assert back.samples.latency_s.tolist() == [0.5, 2.0]
    assert back.samples.failure_kinds == ("ServerFaultError",)


@pytest.mark.parametrize("error", [UsageError("no such file"), GeneratorError("a worker died")])
def test_an_error_left_by_the_process_is_raised_as_what_it_was(tmp_path: Path, error: Exception) -> None:
    outcome.write_error(tmp_path, error)  # type: ignore[arg-type]
    with pytest.raises(type(error), match=str(error)):
        outcome.read_outcome(tmp_path)


def test_lines_that_are_no_events_are_passed_over() -> None:
    assert outcome.event_of(outcome.event_line("window-start")) == "window-start"
    assert [outcome.event_of(line) for line in ("", "hello", "[1]", '{"event": 1}', "3")] == [None] * 5


def test_a_report_travels_in_parts_and_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PART_BYTES", 1000)
    count = 700
    part = samples(np.arange(count).tolist(), [0.5] * count, [0, 1] * (count // 2), ("OverloadedError",))
    sent = list(messages.parts(report(part, failure_examples={"OverloadedError": "full"})))
    assert all(len(content["bytes"]) <= 1000 for name, content in sent if name == messages.SAMPLES)
    *arrays, (name, rest) = sent
    assert name == messages.REPORT
    back = messages.whole(rest, [content for _, content in arrays])
    assert back.samples.begin_s.tolist() == part.begin_s.tolist()
    assert back.samples.kind.tolist() == part.kind.tolist()
    assert back.samples.failure_kinds == ("OverloadedError",)
    assert back.send_lags_s.tolist() == [0.002] * count
    assert (back.length_counts, back.cpu_s) == ({20: 3}, 2.0)


def test_the_cell_of_a_worker_has_everything_access_included() -> None:
    content = messages.cell(outcome.Job(SPEC, TARGET), Access({"authorization": "x"}, "ca.pem"), 1)
    assert messages.read_cell(content) == (
        outcome.Job(SPEC, TARGET),
        Access({"authorization": "x"}, "ca.pem"),
        1,
    )


def test_reports_of_several_processes_become_one_outcome() -> None:
    first = report(
        samples([0.0, 5.0], [1.0, 1.0], [0, 1], ("ServerFaultError",)), failure_examples={"ServerFaultError": "a"}
    )
    second = report(
        samples([0.5, 1.0], [0.1, 8.0], [1, 2], ("OverloadedError", "ServerFaultError")),
        cpu_s=8.0,
        mean_request_bytes=200.0,
        loop_lags_s=np.full(10, 0.003),
        failure_examples={"OverloadedError": "b", "InvalidRequestError": "of the warm-up only"},
        duration_s=10.1,
    )
    whole = combine(SPEC, TARGET, [first, second], reasked=(32, 1), other_cpu_s=1.01)
    names = ["" if kind == 0 else whole.samples.failure_kinds[kind - 1] for kind in whole.samples.kind]
    assert names == ["OverloadedError", "", "ServerFaultError", "ServerFaultError"]  # by end: 0.6, 1.0, 6.0, 9.0
    assert whole.failure_examples == {"ServerFaultError": "a", "OverloadedError": "b"}
    assert whole.duration_s == 10.1
    assert whole.side.max_cpu_share == pytest.approx(8.0 / 10.1)
    assert whole.side.cpu_cores == pytest.approx(0.2 + 8.0 / 10.1 + 0.1)
    assert whole.side.loop_lag_p99_ms == pytest.approx(3.0)
    assert whole.side.send_lag_p99_ms == pytest.approx(2.0)
    assert (whole.side.missed_sends, whole.side.reasked, whole.side.changed) == (2, 32, 1)
    assert whole.side.mean_request_bytes == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("elapsed_s", "answered", "failed", "ends"),
    [(9.9, 1000, 0, False), (10.0, 400, 0, True), (10.0, 399, 0, False), (10.0, 300, 100, True), (60.0, 0, 0, True)],
)
def test_the_window_ends_with_enough_requests_or_at_its_longest(
    elapsed_s: float, answered: int, failed: int, ends: bool
) -> None:
    assert may_end(SPEC, elapsed_s, Progress(answered, failed)) is ends


def test_answers_are_kept_evenly_over_the_whole_window() -> None:
    early = 0
    for seed in range(50):
        kept = Kept(8, seed=seed)
        kept.offer(Request(b"warm-up", 0), Reply(b"", None))
        kept.keeping = True
        for number in range(400):
            kept.offer(Request(str(number).encode(), 0), Reply(b"", None))
        assert len(kept.pairs) == 8
        early += sum(1 for request, _ in kept.pairs if int(request.body) < 200)
    assert 150 < early < 250  # 200 expected, standard deviation 10


def test_the_generator_package_does_not_bring_gevent_into_this_process() -> None:
    import subprocess
    import sys

    code = (
        "import sys, loadtest.generator, loadtest.commands.worker\n"
        "sys.exit('gevent' in sys.modules or 'locust' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
