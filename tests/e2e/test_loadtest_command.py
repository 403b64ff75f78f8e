"""``python -m loadtest`` as a user runs it: tables, limits, resume, Ctrl-C, a server that dies, and every bad input."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest.cell import INTERRUPTED, INVALID, OK, CellResult, Run
from loadtest.results import RunFolder
from server import TritonServer
from tests.conftest import REPOSITORY_ROOT
from tests.e2e import loadtest_models, triton
from tests.e2e.loadtest_models import SERVICE_S
from tests.e2e.loadtest_runner import apart, asked, command, here, without_url

# A window is as long as its requests take, however slow the machine; its longest only ends a test that hangs.
SHORT = ("--warm-up-s", "0.2", "--duration-s", "0.5", "--min-requests", "5", "--max-duration-s", "20")
LONG = ("--warm-up-s", "0.2", "--duration-s", "60", "--max-duration-s", "60")


def stored(folder: Path) -> Run:
    return RunFolder.open(folder).read()


def code_of(cells: Iterable[CellResult]) -> int:
    """What a command ends with that measured these: on a busy machine a cell may be invalid."""
    return 0 if all(cell.verdict == OK for cell in cells) else 1


def column(cells: tuple[CellResult, ...], name: str) -> list[Any]:
    return [getattr(cell.spec, name) for cell in cells]


MODELS = ("quick", "sleeper", "flaky", "silent")


@pytest.fixture(scope="module")
def small_server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """A server that the tests of this module share."""
    backends, repository = loadtest_models.write(tmp_path_factory.mktemp("small"))
    return module_server_factory(repository, backends=backends, models=MODELS)


@pytest.fixture
def own_server(server_factory: Callable[..., TritonServer], tmp_path: Path) -> TritonServer:
    """A server of one test."""
    backends, repository = loadtest_models.write(tmp_path / "own")
    return server_factory(repository, backends=backends, models=("quick", "sleeper"))


# --- The commands ---------------------------------------------------------------------------------


def test_batch_sizes_of_the_demo_model(demo_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = apart("batch-size", "--url", demo_server.grpc_url, "--sizes", "1", "4", "--output", str(folder), *SHORT)
    run = stored(folder)
    assert column(run.cells, "batch_size") == [1, 4], done.stderr
    assert {cell.verdict for cell in run.cells} <= {OK, INVALID}
    assert done.returncode == code_of(run.cells)
    for cell in run.cells:
        samples = RunFolder.open(folder).samples(cell.spec.id)
        assert samples is not None
        assert len(samples.latency_s) == cell.client.requests >= 5
        assert cell.server is not None
        assert cell.server.models[0].requests > 0
        # What Triton counted is what the client got, but for what came while the counters were read. (That they are
        # exact is shown in test_loadtest_counters.py.)
        assert 0.2 < cell.server.models[0].inferences / (cell.client.requests * cell.spec.batch_size) < 5
    assert "| batch-size_sentiment_b4_u1 " in done.stdout
    assert "[1/2] sentiment, batch size 1, 1 user: " in done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"Wrote {folder} (")
    assert "Next: python -m loadtest capacity " in last
    assert (folder / "report.html").is_file()


def test_concurrency_shows_the_knee_over_http(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.http_url, "--model", "sleeper", "--output", str(folder), *SHORT)
    done = here("concurrency", "--users", "1", "4", *flags)
    run = stored(folder)
    assert [cell.spec.workload.users for cell in run.cells] == [1, 4], done.stderr
    assert {cell.spec.protocol for cell in run.cells} == {"HTTP"}
    assert done.returncode == code_of(run.cells)
    if done.returncode == 0:
        # One at a time: four users get what one gets, four times as late.
        assert "The knee is at " in done.stdout
        assert run.cells[1].client.latency_ms["p50"].value > 3 * SERVICE_S * 1000


def test_capacity_reuses_batch_sizes_and_finds_the_limit(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "sleeper", "--output", str(folder), "--sizes", "1", "4")
    here("batch-size", *flags, *SHORT)
    before = {cell.spec.id: cell for cell in stored(folder).cells if cell.verdict == OK}
    done = here("capacity", "--p99-ms", "1000", *flags, *SHORT)
    run = stored(folder)
    (capacity,) = run.capacities
    assert capacity.p99_limit_ms == 1000
    assert [cell for cell in run.cells if cell.spec.id in before] == list(before.values()), "measured twice"
    assert done.stderr.count("(measured before)") == len(before)
    assert {"capacity_sleeper_b1_u16", *before} <= {cell.spec.id for cell in run.cells}
    assert done.returncode == (0 if capacity.largest_batch_size or capacity.rate_per_s else 1), done.stderr
    if before:
        assert capacity.largest_batch_size in column(tuple(before.values()), "batch_size")
        assert f"Largest batch size with P99 <= 1000 ms: {capacity.largest_batch_size} (P99 " in done.stdout
    if capacity.rate_per_s is not None:
        (shown,) = [cell for cell in run.cells if cell.spec.id == capacity.rate_cell]
        assert shown.spec.workload.rate_per_s == capacity.rate_per_s
        assert shown.verdict == OK
        assert shown.client.latency_ms["p99"].value <= 1000
        # 1 / SERVICE_S is all that it can do; a window of some seconds lets a little more pass.
        assert capacity.rate_per_s <= 1.5 / SERVICE_S
        assert "Largest load: " in done.stdout


def test_a_limit_that_nothing_meets_is_exit_code_1(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "sleeper", "--output", str(folder), "--sizes", "1")
    done = here("capacity", "--p99-ms", "10", *flags, *SHORT)
    assert done.returncode == 1
    assert "No batch size that was tried has P99 <= 10 ms" in done.stdout
    assert "No load" in done.stdout
    (capacity,) = stored(folder).capacities
    assert capacity.largest_batch_size is None
    assert capacity.rate_per_s is None


def test_json_is_all_that_stands_on_stdout(small_server: TritonServer, tmp_path: Path) -> None:
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--output", str(tmp_path / "run"), "--json", *SHORT)
    done = here("batch-size", "--sizes", "2", *flags)
    printed = json.loads(done.stdout)
    assert printed["run"]["cells"][0]["spec"]["batch_size"] == 2


def test_default_sizes_stop_at_the_model_s_and_a_dry_run_measures_nothing(
    small_server: TritonServer, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--output", str(folder), "--dry-run")
    done = here("batch-size", *flags)
    assert done.returncode == 0, done.stderr
    assert "batch-size_quick_b8_u1" in done.stdout
    assert "b16" not in done.stdout
    assert "Left out: 16, 32, 64, over quick's max_batch_size 8." in done.stdout
    assert not folder.exists()


def test_secrets_are_not_stored(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--sizes", "1", "--output", str(folder), *SHORT)
    done = here("batch-size", *flags, "--header", "authorization=Bearer hunter2")
    assert stored(folder).cells
    assert "hunter2" not in done.stdout + done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


# --- Interrupted, resumed, broken off ----------------------------------------------------------------


def test_ctrl_c_keeps_what_was_measured_and_the_run_resumes(own_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ["--url", own_server.grpc_url, "--model", "sleeper", "--output", str(folder)]
    here("batch-size", "--sizes", "1", *flags, *SHORT)
    (kept,) = stored(folder).cells
    asked_before = asked(own_server, "sleeper")

    process = subprocess.Popen(
        command("batch-size", "--sizes", "2", "4", *flags, *LONG),
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_url(),
        start_new_session=True,
    )
    try:
        # The model takes a set time for each: more of them than fit into the warm-up.
        triton.eventually(lambda: asked(own_server, "sleeper") > asked_before + 1 / SERVICE_S, 60.0, "load")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group gets it
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "| batch-size_sleeper_b2_u1 " in out
    assert f"Next: python -m loadtest batch-size --sizes 2 4 --url {own_server.grpc_url}" in out.splitlines()[-1]
    verdicts = {cell.spec.batch_size: cell.verdict for cell in stored(folder).cells}
    assert verdicts == {1: kept.verdict, 2: INTERRUPTED}
    triton.eventually(lambda: not children(process.pid), 60.0, "the end of the generator")

    again = here("batch-size", "--sizes", "1", "8", *flags, *SHORT)
    assert ("measured before" in again.stderr) == (kept.verdict == OK)
    assert sorted(column(stored(folder).cells, "batch_size")) == [1, 2, 8]
    assert "run.json" in {path.name for path in folder.iterdir()}

    otherwise = here("batch-size", "--sizes", "2", *flags, *SHORT)
    assert otherwise.returncode == 1
    assert "batch-size_sleeper_b2_u1 measured otherwise: duration_s was 60.0, now 0.5" in otherwise.stderr


def children(group: int) -> list[int]:
    """Live processes of a process group."""
    return [pid for pid in psutil.pids() if triton.alive(pid) and _group(pid) == group]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_a_server_killed_halfway_ends_the_sweep_and_keeps_what_there_is(
    own_server: TritonServer, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    flags = ["--url", own_server.grpc_url, "--model", "sleeper", "--output", str(folder)]
    windows = ["--warm-up-s", "0.3", "--duration-s", "3", "--min-requests", "5", "--timeout-s", "2"]
    process = subprocess.Popen(
        command("batch-size", "--sizes", "1", "2", "4", "8", *flags, *windows),
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_url(),
    )
    try:
        triton.eventually((folder / "cells" / "batch-size_sleeper_b1_u1.json").exists, 60.0, "the first cell")
        of_the_first = asked(own_server, "sleeper")
        # Out of the warm-up of the second: the model takes a set time for each.
        triton.eventually(lambda: asked(own_server, "sleeper") > of_the_first + 0.8 / SERVICE_S, 60.0, "the second")
        own_server.kill()
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "the server is gone" in err
    cells = stored(folder).cells
    assert column(cells, "batch_size")[0] == 1
    assert len(cells) < 4
    assert cells[-1].verdict == INTERRUPTED
    assert "| batch-size_sleeper_b1_u1 " in out


# --- Bad input -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One clear line, the right code, and nothing measured."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("loadtest: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_server_down(tmp_path: Path) -> None:
    url = f"grpc://127.0.0.1:{free_port()}"
    refused(apart("batch-size", "--url", url, "--output", str(tmp_path / "run")), 1, url)
    assert not (tmp_path / "run").exists()


def test_model_missing(small_server: TritonServer, tmp_path: Path) -> None:
    done = here("batch-size", "--url", small_server.grpc_url, "--model", "nobody", "--output", str(tmp_path / "run"))
    refused(done, 1, "nobody")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_wrong_protocol_port(small_server: TritonServer, tmp_path: Path, scheme: str) -> None:
    other = small_server.http_url if scheme == "grpc" else small_server.grpc_url
    address = other.partition("://")[2]
    url = f"{scheme}://{address}"
    refused(here("batch-size", "--url", url, "--model", "quick", "--output", str(tmp_path / "run")), 1, address)


def test_a_size_above_the_model_s(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--output", str(folder))
    refused(here("batch-size", "--sizes", "1", "9", *flags), 2, "9", "max_batch_size", "8")
    assert not folder.exists()


def test_sizes_0() -> None:
    refused(here("batch-size", "--sizes", "0"), 2, "--sizes: 0: expected a whole number of at least 1")


def test_empty_and_missing_text_files(small_server: TritonServer, tmp_path: Path) -> None:
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--output", str(tmp_path / "run"))
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    for path in (empty, tmp_path / "absent.csv"):
        refused(here("batch-size", *flags, "--texts", str(path)), 2, str(path))
    assert not (tmp_path / "run").exists()


def test_a_results_folder_that_cannot_be_written(small_server: TritonServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    flags = ("--url", small_server.grpc_url, "--model", "quick", "--output", str(tmp_path / "file" / "run"), *SHORT)
    before = asked(small_server, "quick")
    refused(here("batch-size", "--sizes", "1", *flags), 1, str(tmp_path / "file"), "cannot be written")
    assert asked(small_server, "quick") == before


def test_a_bad_environment(tmp_path: Path) -> None:
    refused(apart("batch-size", BERT_TRITON_URL="localhost"), 2, "BERT_TRITON_URL", "'localhost'")


def test_a_model_that_fails_some_requests(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "flaky", "--sizes", "1", "--output", str(folder), *SHORT)
    done = here("batch-size", *flags)
    (cell,) = stored(folder).cells
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert cell.verdict == "failed"
    assert "the fifth" in " ".join(cell.client.failure_examples.values())
    assert 0.1 < cell.client.error_rate < 0.3
    assert "failed" in done.stdout


def test_zero_samples(small_server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ("--url", small_server.grpc_url, "--model", "silent", "--sizes", "1", "--output", str(folder), *SHORT)
    done = here("batch-size", *flags, "--timeout-s", "1", "--min-requests", "1")
    (cell,) = stored(folder).cells
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert cell.client.requests == 0
    assert cell.verdict in ("failed", "invalid")
    assert "no answer" in done.stderr
