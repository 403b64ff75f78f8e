"""Rows of the hardware table: which cell stands for a machine, and how the store keeps them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.cell import FAILED, OK, Capacity, CellResult, HardwareRow, Run, RunInfo, TextSource
from loadtest.conclusions.hardware import Store, best_cell, models_with_rows, row_of
from loadtest.errors import ResultsError, UsageError
from loadtest.results import RunFolder
from tests.loadtest_records import closed, opened, result, samples, spec

INFO = RunInfo(("tables",), "2026-11-22T03:00:00+00:00", "2 cores")
ROW = HardwareRow("2 cores", "sentiment", "int8", 8, "1 user", 200.0, 90.0, "2026-11-22", "monday")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The command line takes SIGTERM; these tests give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def limit(p99_ms: float) -> Capacity:
    return Capacity("sentiment", p99_ms, 0.001, None, "", None, "", rate_is_bound=False)


def run(*cells: CellResult, capacity: Capacity | None = None) -> Run:
    return Run("monday", INFO, cells, capacities=(capacity,) if capacity else ())


def batch(size: int, per_s: float, p99_ms: float, *, verdict: str = OK) -> CellResult:
    cell = spec(f"batch-size_sentiment_b{size}_u1", batch_size=size)
    return result(cell, verdict=verdict, requests_per_s=per_s / size, p99_ms=p99_ms)


def test_the_most_sentences_within_the_limit_of_the_capacity() -> None:
    cells = (batch(1, 100, 10), batch(16, 220, 90), batch(64, 260, 600), closed(16, requests_per_s=210, p99_ms=80))
    chosen = best_cell(run(*cells, capacity=limit(500)), "sentiment")
    assert chosen is cells[1]
    assert best_cell(run(*cells, capacity=limit(1000)), "sentiment") is cells[2]
    assert best_cell(run(*cells, capacity=limit(85)), "sentiment") is cells[3]
    assert best_cell(run(*cells, capacity=limit(5)), "sentiment") is None


def test_what_does_not_count_stands_for_no_machine() -> None:
    repeated = replace(closed(16, requests_per_s=900, p99_ms=9), spec=spec(texts=TextSource(repeat_share=0.5)))
    precision = replace(closed(16, requests_per_s=900, p99_ms=9), spec=spec(series="precision"))
    cells = (
        batch(64, 900, 20, verdict=FAILED),
        repeated,
        precision,
        opened(900, requests_per_s=900),
        batch(8, 200, 90),
    )
    assert best_cell(run(*cells, capacity=limit(500)), "sentiment") is cells[-1]


def test_without_a_limit_it_is_the_knee_not_the_longest_queue() -> None:
    cells = (
        closed(1, requests_per_s=100, p99_ms=10),
        closed(8, requests_per_s=198, p99_ms=50),
        closed(64, requests_per_s=200, p99_ms=400),
        batch(64, 260, 600),
    )
    assert best_cell(run(*cells), "sentiment") is cells[1]


def test_the_row_is_what_the_cell_says() -> None:
    row = row_of(run(batch(8, 200, 90), capacity=limit(500)), "sentiment")
    assert row == ROW


def test_a_name_stands_beside_the_machine_not_in_its_place() -> None:
    assert (
        row_of(run(batch(8, 200, 90), capacity=limit(500)), "sentiment", "my laptop").hardware == "my laptop (2 cores)"
    )


def test_a_machine_that_nobody_looked_at_needs_a_name() -> None:
    cell = batch(8, 200, 90)
    remote = replace(cell, setting=replace(cell.setting, hardware="remote host gpu-1"))
    with pytest.raises(UsageError, match="--name"):
        row_of(run(remote, capacity=limit(500)), "sentiment")
    assert row_of(run(remote, capacity=limit(500)), "sentiment", "A10G").hardware == "A10G (remote host gpu-1)"


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (run(), "neither a capacity nor a concurrency sweep of sentiment"),
        (run(batch(8, 200, 90)), "neither a capacity nor a concurrency sweep of sentiment"),
        (run(batch(8, 200, 90), capacity=limit(50)), "keeps P99 within 50 ms"),
    ],
)
def test_a_run_that_cannot_stand_for_a_machine(measured: Run, said: str) -> None:
    with pytest.raises(ResultsError, match=said):
        row_of(measured, "sentiment")
    assert models_with_rows(measured) == []


def test_one_row_for_each_hardware_model_and_precision(tmp_path: Path) -> None:
    store = Store(tmp_path / "results/hardware.json")
    assert store.rows() == ()
    others = (replace(ROW, hardware="T4"), replace(ROW, model="other"), replace(ROW, precision="fp32"))
    for row in (ROW, *others):
        assert store.put(row) is None
    again = replace(ROW, sentences_per_s=300.0, batch_size=16)
    assert store.put(again) is None
    assert set(store.rows()) == {again, *others}


def test_a_newer_row_replaces_an_older_one_and_not_the_reverse(tmp_path: Path) -> None:
    store = Store(tmp_path / "hardware.json")
    older, newer = replace(ROW, measured_on="2026-10-01"), replace(ROW, measured_on="2026-12-01")
    store.put(newer)
    assert store.put(older) == newer
    assert store.rows() == (newer,)


@pytest.mark.parametrize("content", ["", "{}", '[{"hardware": "typed in by hand"}]'])
def test_a_store_that_is_damaged_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "hardware.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match=r"hardware\.json cannot be read"):
        Store(path).put(ROW)
    assert path.read_text() == content


def test_add_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, store = tmp_path / "monday", tmp_path / "hardware.json"
    with RunFolder.create_or_resume(source, INFO) as folder:
        folder.put_cell(batch(8, 200, 90), samples())
        folder.put_capacity(limit(500))
    assert main(["hardware", "add", "--from", str(source), "--store", str(store)]) == 0
    assert "2 cores: 200 sentences/s, P99 90 ms (sentiment, int8, batch size 8, 1 user, run monday)" in (
        capsys.readouterr().out
    )
    assert RunFolder.open(source).read().hardware == (ROW,)
    assert main(["hardware", "show", "--store", str(store), "--json"]) == 0
    assert [row["sentences_per_s"] for row in json.loads(capsys.readouterr().out)] == [200.0]
    assert main(["hardware", "show", "--store", str(store)]) == 0
    table = capsys.readouterr().out
    assert "NVIDIA T4" in table  # the published rows
    assert "2 cores" in table


def test_show_without_rows_is_the_published_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hardware", "show", "--store", str(tmp_path / "none.json")]) == 0
    printed = capsys.readouterr().out
    assert "NVIDIA A100" in printed
    assert "Nothing measured yet" in printed


def test_add_from_a_run_without_such_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.create_or_resume(tmp_path / "run", INFO):
        pass
    store = tmp_path / "hardware.json"
    assert main(["hardware", "add", "--from", str(tmp_path / "run"), "--store", str(store)]) == 1
    assert "python -m loadtest capacity" in capsys.readouterr().err
    assert not store.exists()


@pytest.mark.parametrize("words", [(), ("remove",), ("add", "--from", "x", "--sentences-per-s", "900")], ids=" ".join)
def test_nothing_can_be_typed_in(words: tuple[str, ...]) -> None:
    assert main(["hardware", *words]) == 2


def test_without_a_run_to_take_it_from_there_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hardware", "add"]) == 1
    assert "no run under results has a capacity" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
