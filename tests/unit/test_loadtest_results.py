"""The run folder: round trip, damage, resume, two runs at once, folders that cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.cell import (
    FAILED,
    INTERRUPTED,
    INVALID,
    OK,
    Capacity,
    Cost,
    Estimate,
    HardwareRow,
    ModelFacts,
    RunInfo,
    Workload,
)
from loadtest.errors import ResultsError
from loadtest.results import RunFolder, slug, write_atomically
from tests.conftest import REPOSITORY_ROOT
from tests.loadtest_records import result, samples, spec

INFO = RunInfo(("batch-size", "--sizes", "1", "8"), "2026-11-22T03:00:00+00:00", "2 cores", "a note")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create_or_resume(tmp_path / "results" / "run", INFO) as made:
        yield made


def test_everything_comes_back_as_it_was_put_in_the_order_of_measurement(folder: RunFolder) -> None:
    later = result(spec("a-later", batch_size=1), started_at="2026-11-22T03:02:00+00:00")
    earlier = result(
        spec("b-earlier", workload=Workload(rate_per_s=12.5)), verdict=FAILED, failures={"OverloadedError": 3}
    )
    silent = result(
        spec("c-silent"), verdict=INVALID, requests_per_s=0.0, p99_ms=None, started_at="2026-11-22T03:03:00Z"
    )
    for cell in (later, earlier, silent):
        folder.put_cell(replace(cell, server=None) if cell is silent else cell, samples())
    facts = ModelFacts(
        "sentiment_int8", "int8", "bert 6 x 384", 24_200_000, Estimate(0.861, 0.85, 0.87), 2200, "test.csv"
    )
    capacity = Capacity("sentiment", 500.0, 0.001, 32, "b32", 142.0, "r142", True)
    cost = Cost("my server", 200.0, "$", 142.0, 1.0, 0.0005)
    row = HardwareRow("Xeon, 2 cores", "sentiment", "int8", 8, "1 user", 400.0, 80.0, "2026-11-22", "run")
    folder.put_facts(facts)
    folder.put_capacity(capacity)
    folder.put_cost(cost)
    folder.put_hardware(row)
    folder.close()

    run = RunFolder.open(folder.path).read()
    assert run.name == "run"
    assert run.info == INFO
    assert run.cells == (earlier, later, replace(silent, server=None))
    assert (run.facts, run.capacities, run.costs, run.hardware) == ((facts,), (capacity,), (cost,), (row,))


def test_raw_samples_come_back(folder: RunFolder) -> None:
    folder.put_cell(result(), samples(31))
    stored = folder.samples(result().spec.id)
    assert stored is not None
    np.testing.assert_array_equal(stored.latency_s, samples(31).latency_s)
    assert folder.samples("another") is None


@pytest.mark.parametrize(
    ("verdict", "measured_again"), [(OK, False), (FAILED, False), (INVALID, True), (INTERRUPTED, True)]
)
def test_resume_measures_again_what_says_nothing(folder: RunFolder, verdict: str, measured_again: bool) -> None:
    folder.put_cell(result(verdict=verdict), samples())
    assert (folder.settled(spec()) is None) == measured_again
    assert folder.settled(spec("another")) is None


def test_the_same_id_measured_otherwise_is_refused_by_what_differs(folder: RunFolder) -> None:
    folder.put_cell(result(verdict=INTERRUPTED), samples())
    with pytest.raises(ResultsError, match=r"duration_s was 10.0, now 5.0; timeout_s was 30.0, now 2.0; .* --output"):
        folder.settled(spec(duration_s=5.0, timeout_s=2.0))


def test_a_resumed_run_keeps_what_it_was(folder: RunFolder) -> None:
    folder.close()
    other = RunInfo(("capacity",), "2027-01-01T00:00:00+00:00", "elsewhere")
    with RunFolder.create_or_resume(folder.path, other) as resumed:
        assert resumed.info == INFO


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"batch_size": 8', '"batch_size": "eight"'),
        lambda text: text.replace('"batch_size": 8', '"batch_size": 0'),
        lambda text: text.replace('"started_at"', '"began_at"'),
        lambda text: "",
    ],
    ids=["cut", "type", "value", "field", "empty"],
)
def test_a_damaged_cell_is_named(folder: RunFolder, damage) -> None:  # type: ignore[no-untyped-def]
    folder.put_cell(result(), samples())
    path = folder.path / "cells" / f"{spec().id}.json"
    path.write_text(damage(path.read_text()))
    for read in (lambda: folder.cell(spec().id), folder.read, lambda: folder.settled(spec())):
        with pytest.raises(ResultsError, match=f"{spec().id}.json is damaged"):
            read()


def test_fields_of_a_later_version_are_tolerated(folder: RunFolder) -> None:
    folder.put_cell(result(), samples())
    path = folder.path / "cells" / f"{spec().id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "blue"}))
    assert folder.cell(spec().id) == result()


@pytest.mark.parametrize("content", [b"", b"PK nonsense"])
def test_damaged_samples_are_named(folder: RunFolder, content: bytes) -> None:
    folder.put_cell(result(), samples())
    path = folder.path / "cells" / f"{spec().id}.npz"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"\.npz is damaged"):
        folder.samples(spec().id)


def test_two_runs_at_once_on_one_folder_are_refused(folder: RunFolder) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from loadtest.cell import RunInfo; from loadtest.results import RunFolder\n"
        "RunFolder.create_or_resume(Path(sys.argv[1]), RunInfo((), '', '')).close()"
    )
    command = [sys.executable, "-c", script, str(folder.path)]
    second = subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=False)
    assert "is being written by another run (process " in second.stderr
    folder.close()
    assert subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, check=False).returncode == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for path in (in_the_way, in_the_way / "run"):
        with pytest.raises(ResultsError, match=f"{path} cannot be written"):
            RunFolder.create_or_resume(path, INFO)
    with pytest.raises(ResultsError, match="cannot be written"):
        write_atomically(in_the_way / "report.md", "text")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ResultsError, match=r"holds 'thesis.txt' but no run.json"):
        RunFolder.create_or_resume(tmp_path, INFO)
    with pytest.raises(ResultsError, match=r"has no run.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(ResultsError, match="is not a folder"):
        RunFolder.open(tmp_path / "absent")


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_atomically(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "first"
    write_atomically(path, "second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.md"]
    assert path.read_text() == "second"


@pytest.mark.parametrize(
    ("text", "name"),
    [("Sentiment INT8", "sentiment-int8"), ("../../etc", "etc"), ("$200 / month", "200-month"), ("…", "unnamed")],
)
def test_names_of_files(text: str, name: str) -> None:
    assert slug(text) == name
