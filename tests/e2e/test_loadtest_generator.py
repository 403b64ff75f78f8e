"""The load generator against models whose behaviour is known: what it measures is what theory says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from loadtest import generator
from loadtest.access import Access
from loadtest.cell import Workload
from loadtest.errors import GeneratorError, UsageError
from loadtest.generator import Distributed, Outcome
from loadtest.samples import ANSWERED
from server import TritonServer
from tests.e2e import loadtest_models, triton
from tests.e2e.loadtest_models import LONG_SERVICE_S, SERVICE_S, STALL_AT, STALL_S, cell
from tests.e2e.loadtest_runner import asked

PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    backends, repository = loadtest_models.write(tmp_path_factory.mktemp("known_behaviour"))
    models = ("quick", "sleeper", "slow_sleeper", "swamped", "stalls_once", "stalls_once_too", "flaky")
    return module_server_factory(repository, backends=backends, models=models)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child.cmdline() for child in left if "loadtest" in " ".join(child.cmdline())] == []


def run(server: TritonServer, model: str, workload: Workload, **values: object) -> Outcome:
    spec, target = cell(server, model, workload, **values)  # type: ignore[arg-type]
    return generator.run(spec, target, Access(), on_event=lambda _: None)


def good_ms(outcome: Outcome) -> np.ndarray:
    return outcome.samples.latency_s[outcome.samples.kind == ANSWERED] * 1e3


def failures(outcome: Outcome) -> dict[str, int]:
    kinds, counts = np.unique(outcome.samples.kind, return_counts=True)
    return {
        outcome.samples.failure_kinds[kind - 1]: int(count)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
        if kind != ANSWERED
    }


@pytest.mark.parametrize(("protocol", "users"), [("grpc", 1), ("http", 4)])
def test_closed_users_of_a_serial_server_wait_for_each_other(server: TritonServer, protocol: str, users: int) -> None:
    events: list[str] = []
    spec, target = cell(server, "sleeper", Workload(users=users), protocol=protocol, min_requests=50)
    outcome = generator.run(spec, target, Access(), on_event=events.append)
    assert events == ["users-up", "window-start", "window-end"]
    assert failures(outcome) == {}
    rate = len(outcome.samples.ends_s) / outcome.duration_s
    # The server takes a little more than it sleeps; how much depends on the machine. Little's law holds on any: users
    # who never pause are all waiting, less the time that a busy machine takes from answer to request.
    assert rate <= (1.02 + users / 50) / SERVICE_S
    assert 0.6 * users < rate * np.mean(good_ms(outcome)) / 1e3 < 1.15 * users
    assert np.min(good_ms(outcome)) >= SERVICE_S * 1e3
    assert 1.0 <= outcome.duration_s < spec.max_duration_s
    assert (outcome.side.reasked, outcome.side.changed, outcome.side.unfinished) == (32, 0, 0)
    assert outcome.side.lengths.startswith("words: mean")
    assert outcome.side.mean_request_bytes > 50
    assert not outcome.interrupted


def test_open_workload_queues_as_a_single_server_does(server: TritonServer) -> None:
    rate_per_s = 0.6 / LONG_SERVICE_S
    outcome = run(server, "slow_sleeper", Workload(rate_per_s=rate_per_s), duration_s=5.0)
    begin_s, latency_s = outcome.samples.begin_s, outcome.samples.latency_s
    assert failures(outcome) == {}
    expected = rate_per_s * outcome.duration_s
    assert len(begin_s) == pytest.approx(expected, abs=4 * np.sqrt(expected))  # 4 standard deviations
    free_s, least_s = 0.0, []
    for begin in np.sort(begin_s):  # Lindley: each waits until the one before is done
        free_s = max(free_s, begin) + LONG_SERVICE_S
        least_s.append(free_s - begin)
    assert np.mean(least_s) > 1.2 * LONG_SERVICE_S  # some have found others before them
    # No machine is faster than the sleep; a busy one is slower, and its queue longer by more than that.
    assert 0.99 * np.mean(least_s) < np.mean(latency_s) < 3 * np.mean(least_s)
    assert outcome.side.send_lag_p99_ms is not None
    assert outcome.side.missed_sends == 0


def test_a_stall_shows_in_the_latency_of_every_arrival_behind_it(server: TritonServer) -> None:
    rate_per_s = 60.0
    # Until those have ended that come in the second of the stall, and some more.
    outcome = run(server, "stalls_once", Workload(rate_per_s=rate_per_s), warm_up_s=0.0, min_requests=STALL_AT + 80)
    latency_s = outcome.samples.latency_s
    assert latency_s.max() >= STALL_S
    behind = int((latency_s > STALL_S / 2).sum())
    assert 0.4 * rate_per_s * STALL_S / 2 < behind < 0.6 * len(latency_s)  # those of half a second: 30


def test_one_closed_user_hides_the_same_stall(server: TritonServer) -> None:
    outcome = run(server, "stalls_once_too", Workload(users=1), warm_up_s=0.0, min_requests=STALL_AT + 20)
    assert int((outcome.samples.latency_s > STALL_S / 2).sum()) == 1


@PROTOCOLS
def test_failures_are_counted_exactly_and_are_no_throughput(server: TritonServer, protocol: str) -> None:
    outcome = run(server, "flaky", Workload(users=1), protocol=protocol, duration_s=0.3, min_requests=100)
    total = len(outcome.samples.kind)
    assert set(failures(outcome)) == {"ServerFaultError"}
    assert abs(failures(outcome)["ServerFaultError"] - total / 5) <= 1  # one user: every fifth, in turn
    assert "the fifth" in outcome.failure_examples["ServerFaultError"]
    assert len(outcome.samples.ends_s) == pytest.approx(total * 4 / 5, abs=2)


def test_two_processes_share_users_and_arrivals(server: TritonServer) -> None:
    closed = run(server, "sleeper", Workload(users=4), processes=2, min_requests=50)
    rate = len(closed.samples.ends_s) / closed.duration_s
    assert closed.side.processes == 2
    assert 0.6 * 4 < rate * np.mean(good_ms(closed)) / 1e3 < 1.25 * 4  # Little's law
    assert (closed.side.reasked, closed.side.changed) == (32, 0)
    arrivals = run(server, "quick", Workload(rate_per_s=100.0), processes=2, duration_s=1.5)
    expected = 100.0 * arrivals.duration_s
    assert len(arrivals.samples.begin_s) == pytest.approx(expected, abs=5 * np.sqrt(expected))  # standard deviations
    assert failures(closed) == failures(arrivals) == {}


def test_sixty_four_users_connect_at_once_and_get_equal_shares(server: TritonServer) -> None:
    outcome = run(server, "quick", Workload(users=64))
    assert failures(outcome) == {}
    rate = len(outcome.samples.ends_s) / outcome.duration_s
    assert np.median(good_ms(outcome)) > 0.25 * 64 / rate * 1e3  # one that asks on and on: 1/64 of it


def test_arrivals_beyond_what_can_be_outstanding_are_counted(server: TritonServer) -> None:
    outcome = run(server, "swamped", Workload(rate_per_s=1500.0), warm_up_s=0.2, duration_s=2.0, timeout_s=2.0)
    assert outcome.side.missed_sends > 0
    assert set(failures(outcome)) == {"DeadlineExceededError"}
    assert outcome.samples.latency_s.max() < 10.0  # not the 20 s that the server's queue takes


def test_a_server_that_dies_is_failures_without_a_tight_loop(
    server_factory: Callable[..., TritonServer], tmp_path: Path
) -> None:
    backends, repository = loadtest_models.write(tmp_path)
    mortal = server_factory(repository, backends=backends, models=("sleeper",))
    spec, target = cell(mortal, "sleeper", Workload(users=4), min_requests=10_000, max_duration_s=4.0)

    def kill() -> None:
        before = asked(mortal, "sleeper")
        triton.eventually(lambda: asked(mortal, "sleeper") > before + 20, 60.0, "load")
        mortal.end_processes()

    killer = threading.Thread(target=kill)
    outcome = generator.run(
        spec, target, Access(), on_event=lambda event: killer.start() if event == "window-start" else None
    )
    killer.join()
    lost = failures(outcome)["ServerUnreachableError"]
    assert 4 < lost <= 4 * outcome.duration_s / 0.05 + 4
    assert len(outcome.samples.ends_s) > 10
    assert 4.0 <= outcome.duration_s < 20.0


def test_a_worker_process_that_dies_ends_the_cell(server: TritonServer) -> None:
    def kill_a_worker(event: str) -> None:
        if event == "window-start":
            workers = [each for each in psutil.Process().children(recursive=True) if "--master" in each.cmdline()]
            assert len(workers) == 2
            workers[0].kill()

    spec, target = cell(server, "quick", Workload(users=2), processes=2, duration_s=20.0)
    with pytest.raises(GeneratorError, match="in the middle of the cell"):
        generator.run(spec, target, Access(), on_event=kill_a_worker)


def test_texts_that_cannot_be_read_are_a_usage_error_and_not_a_dead_generator(
    server: TritonServer, tmp_path: Path
) -> None:
    from loadtest.cell import TextSource

    for processes in (1, 2):
        with pytest.raises(UsageError, match=r"none\.txt"):
            run(
                server,
                "quick",
                Workload(users=2),
                processes=processes,
                texts=TextSource(path=str(tmp_path / "none.txt")),
            )
    with pytest.raises(UsageError, match="2 load-generating processes"):
        spec, target = cell(server, "quick", Workload(users=1))
        generator.run(spec, target, Access(), on_event=lambda _: None, distributed=Distributed("127.0.0.1", 1, 2))


def test_a_worker_elsewhere_serves_cell_after_cell_until_ctrl_c(server: TritonServer) -> None:
    port = triton.free_port()
    worker = subprocess.Popen(
        [sys.executable, "-m", "loadtest", "worker", "--master-port", str(port)], cwd=triton.REPOSITORY_ROOT
    )
    try:
        for users in (1, 2):
            spec, target = cell(server, "sleeper", Workload(users=users), duration_s=0.5, min_requests=15)
            outcome = generator.run(
                spec, target, Access(), on_event=lambda _: None, distributed=Distributed("127.0.0.1", port, 1)
            )
            assert len(good_ms(outcome)) > 10
            assert failures(outcome) == {}
        worker.send_signal(signal.SIGINT)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.wait()


ORCHESTRATOR = """
import json, sys
from loadtest import generator
from loadtest.access import Access
from loadtest.generator.outcome import read_job
from pathlib import Path

job = read_job(Path(sys.argv[1]))
outcome = generator.run(job.spec, job.target, Access(), on_event=lambda event: print(event, flush=True))
print(json.dumps([outcome.interrupted, len(outcome.samples.begin_s), outcome.duration_s]), flush=True)
"""


@pytest.fixture
def orchestrator(server: TritonServer, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a long cell of two generator processes."""
    from loadtest.generator.outcome import Job, write_job

    spec, target = cell(server, "sleeper", Workload(users=2), duration_s=60.0, max_duration_s=60.0, processes=2)
    write_job(tmp_path, Job(spec, target))
    process = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, str(tmp_path)],
        cwd=triton.REPOSITORY_ROOT,
        env={**os.environ, "PYTHONPATH": str(triton.REPOSITORY_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        while process.stdout.readline().strip() != "window-start":
            assert process.poll() is None
        before = asked(server, "sleeper")
        triton.eventually(lambda: asked(server, "sleeper") > before + 20, 60.0, "requests of the window")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_ctrl_c_keeps_what_was_measured(orchestrator: subprocess.Popen[str]) -> None:
    orchestrator.send_signal(signal.SIGINT)
    out, _ = orchestrator.communicate(timeout=120)
    interrupted, requests, duration_s = json.loads(out.splitlines()[-1])
    assert orchestrator.returncode == 0
    assert interrupted
    assert requests > 5
    assert (requests - 4) * SERVICE_S < duration_s < 60


def test_generators_die_with_the_process_that_asked_for_them(orchestrator: subprocess.Popen[str]) -> None:
    family = psutil.Process(orchestrator.pid).children(recursive=True)
    assert len(family) == 3
    orchestrator.kill()
    orchestrator.wait()
    triton.eventually(lambda: not any(triton.alive(each.pid) for each in family), 60, "the generators' end")
