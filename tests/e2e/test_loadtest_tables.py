"""The commands precision, cost, hardware and tables on the real Triton with the demo model, in very short windows."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bert_triton_client import Client
from loadtest.cell import OK, Run
from loadtest.commands.tables import FINISHED_FILE
from loadtest.conclusions import hardware
from loadtest.results import RunFolder
from server import TritonServer
from tests.conftest import DEMO, REPOSITORY_ROOT
from tests.e2e import triton
from tests.e2e.loadtest_runner import apart, here
from tests.e2e.triton import DEMO_REPOSITORY

SHORT = ("--warm-up-s", "0.1", "--duration-s", "0.5", "--max-duration-s", "5", "--min-requests", "3")
TEXTS = 60
TABLES = ("T1", "T2", "T3", "T4", "T5")


def read(folder: Path) -> Run:
    return RunFolder.open(folder).read()


@pytest.fixture(scope="module")
def eval_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first held-out sentences of the demo."""
    if not (DEMO / "test.csv").exists():
        pytest.skip("the demo's sentences are not there; run `make demo`")
    path = tmp_path_factory.mktemp("eval") / "sixty.csv"
    with (DEMO / "test.csv").open(encoding="utf-8", newline="") as source, path.open("w", newline="") as target:
        rows = list(csv.reader(source))
        csv.writer(target).writerows(rows[: TEXTS + 1])
    return path


def right_answers(server: TritonServer, eval_data: Path) -> int:
    """How often the text model says what the file says, asked with the client alone."""
    with eval_data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with Client(server.endpoints.url("grpc"), model="sentiment") as client:
        answers = client.classify([row["text"] for row in rows])
    return sum(answer.label == row["label"] for answer, row in zip(answers, rows, strict=True))


# --- precision ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def precision_run(
    demo_server: TritonServer, eval_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("results") / "precision"
    models = ("sentiment_fp32", "sentiment_int8", "sentiment")
    done = here(
        *("precision", "--url", demo_server.endpoints.url("grpc"), "--models", *models),
        *("--eval-data", str(eval_data), "--users", "4", "--output", str(output), *SHORT),
    )
    return output, done


def test_two_cells_a_model_the_latency_cells_side_by_side(
    precision_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, done = precision_run
    assert done.returncode in (0, 1), done.stderr  # 1: a busy machine can make a cell invalid
    cells = read(output).cells
    assert [cell.spec.id for cell in cells] == [
        f"precision-{model}-{kind}"
        for kind in ("latency", "throughput")
        for model in ("sentiment_fp32", "sentiment_int8", "sentiment")
    ]
    assert [cell.spec.workload.users for cell in cells] == [1, 1, 1, 4, 4, 4]
    assert {cell.spec.series for cell in cells} == {"precision"}
    assert all(cell.client.requests >= 1 for cell in cells)
    assert done.returncode == (0 if all(cell.verdict == OK for cell in cells) else 1)


def test_accuracy_is_what_the_server_answers(
    demo_server: TritonServer, eval_data: Path, precision_run: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    """The text model calls the INT8 one with the same tokens: both are as accurate as the client's own labels say."""
    facts = {one.model: one for one in read(precision_run[0]).facts}
    right = right_answers(demo_server, eval_data)
    for model in ("sentiment", "sentiment_int8"):
        accuracy = facts[model].accuracy
        assert accuracy is not None
        assert round(accuracy.value * TEXTS) == right
        assert accuracy.low is not None
        assert accuracy.high is not None
        assert accuracy.low < accuracy.value < accuracy.high
    fp32 = facts["sentiment_fp32"].accuracy
    assert fp32 is not None
    assert abs(round(fp32.value * TEXTS) - right) <= 3  # export holds INT8 to 98 % of the same labels
    assert {(one.texts, one.data) for one in facts.values()} == {(TEXTS, "sixty.csv")}


def test_sizes_are_those_of_the_served_files(precision_run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    facts = {one.model: one for one in read(precision_run[0]).facts}
    for model, file in (("sentiment_fp32", "sentiment_fp32"), ("sentiment", "sentiment_int8")):
        version = read(precision_run[0]).cells[0].setting.served_version
        assert facts[model].size_bytes == (DEMO_REPOSITORY / file / version / "model.onnx").stat().st_size
    assert facts["sentiment_fp32"].precision == "fp32"


def test_what_was_measured_is_not_measured_again(
    demo_server: TritonServer, eval_data: Path, precision_run: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, _ = precision_run
    kept = {cell.spec.id: cell.started_at for cell in read(output).cells if cell.verdict == OK}
    again = here(
        *("precision", "--url", demo_server.endpoints.url("grpc")),
        *("--models", "sentiment_fp32", "sentiment_int8", "sentiment"),
        *("--eval-data", str(eval_data), "--users", "4", "--output", str(output), *SHORT),
    )
    assert again.stdout.count("(measured before)") == 3, again.stderr
    started = {cell.spec.id: cell.started_at for cell in read(output).cells}
    assert kept.items() <= started.items()


def test_a_tensor_model_with_nothing_but_a_tokenizer_and_labels(
    demo_server: TritonServer, eval_data: Path, tmp_path: Path
) -> None:
    """As against a server of which there is no repository here."""
    (tmp_path / "empty").mkdir()
    tokenizer = next((DEMO_REPOSITORY / "sentiment").glob("[0-9]*/tokenizer.json"))
    done = here(
        *("precision", "--url", demo_server.endpoints.url("http"), "--models", "sentiment_int8", "--users", "1"),
        *("--eval-data", str(eval_data), "--tokenizer", str(tokenizer), "--labels", "negative", "positive"),
        *("--repository", str(tmp_path / "empty"), "--output", str(tmp_path / "run"), *SHORT),
    )
    (facts,) = read(tmp_path / "run").facts
    assert facts.size_bytes is None
    assert facts.accuracy is not None, done.stderr
    assert round(facts.accuracy.value * TEXTS) == right_answers(demo_server, eval_data)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--models", "sentiment_bf16"), 1, "sentiment_bf16"),
        (("--models", "sentiment_int8", "--eval-data", "none.csv"), 2, "no such file"),
        (("--models", "sentiment_int8", "--eval-data", "{eval}", "--label-column", "stars"), 2, "'stars'"),
        (("--models", "sentiment_int8", "--eval-data", "{eval}", "--labels", "bad", "good"), 2, "expected bad, good"),
        (("--models", "sentiment_int8", "--eval-data", "{eval}", "--repository", "{empty}"), 2, "--tokenizer"),
        (("--models", "sentiment_int8", "sentiment_int8"), 2, "given twice"),
        (("--models", "sentiment_int8", "--repository", "none"), 2, "no such folder"),
    ],
)
def test_bad_input_is_one_line_and_measures_nothing(
    demo_server: TritonServer, eval_data: Path, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [word.format(eval=eval_data, empty=tmp_path / "empty") for word in words]
    output = tmp_path / "run"
    done = here("precision", "--url", demo_server.endpoints.url("grpc"), *filled, "--output", str(output), *SHORT)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not output.exists()


# --- all tables -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README with the marks of every table."""
    path = tmp_path_factory.mktemp("readme") / "README.md"
    marks = "".join(f"\n<!-- table {name} -->\nold\n<!-- end of table {name} -->\n" for name in TABLES)
    text = (REPOSITORY_ROOT / "README.md").read_text(encoding="utf-8")
    path.write_text(text if all(f"<!-- table {name} -->" in text for name in TABLES) else text + marks)
    return path


@pytest.fixture(scope="module")
def tables_run(
    demo_server: TritonServer, eval_data: Path, readme: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("results") / "tables"
    done = apart(
        *("tables", "--url", demo_server.endpoints.url("grpc"), "--http-url", demo_server.endpoints.url("http")),
        *("--metrics-url", demo_server.endpoints.url("metrics"), "--model", "sentiment"),
        *("--models", "sentiment_fp32", "sentiment_int8", "--eval-data", str(eval_data)),
        *("--sizes", "1", "8", "--users", "1", "16", "--monthly-price", "200", "--p99-ms", "2000"),
        *("--readme", str(readme), "--output", str(folder), "--store", str(folder.with_name("hardware.json")), *SHORT),
    )
    return folder, done


def test_every_step_of_the_tables_is_done(tables_run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = tables_run
    run = read(folder)
    series = {cell.spec.series for cell in run.cells}
    assert {"precision", "batch-size", "concurrency", "protocol", "cache", "capacity"} <= series
    assert [cell.spec.protocol for cell in run.cells if cell.spec.series == "protocol"] == ["HTTP"]
    assert {one.model for one in run.facts} == {"sentiment_fp32", "sentiment_int8"}
    assert all(one.accuracy is not None for one in run.facts)
    # On a busy machine the generator may be late in every cell: then there is no rate to pay for, and the run says so.
    (capacity,) = run.capacities
    assert len(run.costs) == (1 if capacity.rate_per_s is not None else 0), done.stdout
    for cost in run.costs:
        assert cost.per_1000_requests == pytest.approx(200 / ((capacity.rate_per_s or 0) * 3600 * 730) * 1000)
    assert len(run.hardware) == (1 if hardware.models_with_rows(run) else 0), done.stdout
    for row in run.hardware:
        assert json.loads(folder.with_name("hardware.json").read_text())[0]["sentences_per_s"] == row.sentences_per_s
    assert done.stdout.count("was not done") == 2 - len(run.costs) - len(run.hardware)
    assert (folder / FINISHED_FILE).exists() == ("was not done" not in done.stdout)
    assert done.returncode in (0, 1)
    if any(cell.verdict != OK for cell in run.cells if cell.spec.series != "capacity"):
        assert done.returncode == 1


def test_the_plan_comes_first(tables_run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = tables_run[1].stderr.splitlines()
    assert lines[0] == "| step | what | cells | at least | at most |"
    assert [line.split(" | ")[0][2:] for line in lines[2:10]] == [
        *("precision", "batch-size", "concurrency", "http", "cache", "capacity", "cost", "hardware")
    ]


def test_the_cache_answers_in_its_own_row_and_in_no_other(
    tables_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cells = read(tables_run[0]).cells
    hits = {cell.spec.series: cell.server.cache_hits for cell in cells if cell.server is not None}
    assert hits.pop("cache") > 0
    assert set(hits.values()) == {0}


def test_every_table_is_written_and_put_into_the_readme(
    tables_run: tuple[Path, subprocess.CompletedProcess[str]], readme: Path
) -> None:
    folder, done = tables_run
    text = readme.read_text()
    for name in TABLES:
        assert (folder / "tables" / f"{name}.md").read_text().strip(), name
        between = re.search(rf"<!-- table {name} -->(.*?)<!-- end of table {name} -->", text, re.DOTALL)
        assert between is not None, done.stderr
        assert "|" in between.group(1)
        assert between.group(1).strip() != "old"
    assert (folder / "report.html").is_file()


def test_cost_and_hardware_of_the_finished_run(
    tables_run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """With the verdicts and the rate of a machine that nothing else uses."""
    folder = tmp_path / "copy"
    shutil.copytree(tables_run[0], folder)
    run, quiet = read(folder), RunFolder.open(folder)
    for cell in run.cells:
        kept = quiet.samples(cell.spec.id)
        assert kept is not None
        quiet.put_cell(replace(cell, verdict=OK, reasons=()), kept)
    quiet.put_capacity(replace(run.capacities[0], p99_limit_ms=60_000.0, rate_per_s=100.0))
    done = here("cost", "--monthly-price", "100", "--option", "half", "--from", str(folder))
    assert done.returncode == 0, done.stderr
    (cost,) = [cost for cost in read(folder).costs if cost.option == "half"]
    assert cost.per_1000_requests == pytest.approx(100 / (100 * 3600 * 730) * 1000)
    store = tmp_path / "hardware.json"
    done = here("hardware", "add", "--from", str(folder), "--model", "sentiment", "--store", str(store))
    assert done.returncode == 0, done.stderr
    assert here("hardware", "add", "--from", str(folder), "--model", "none", "--store", str(store)).returncode == 1
    shown = here("hardware", "show", "--store", str(store))
    assert shown.returncode == 0
    assert "NVIDIA T4" in shown.stdout
    assert len(json.loads(store.read_text())) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--monthly-price", "0"), 2, "--monthly-price"),
        (("--http-url", "grpc://localhost:8001"), 2, "--http-url"),
        (("--readme", "none.md"), 2, "--readme"),
        (("--repeat-share", "0.5"), 2, "--repeat-share"),
        (("--models", "sentiment_bf16"), 1, "sentiment_bf16"),
        (("--model", "nobody"), 1, "nobody"),
        (("--sizes", "1", "1000"), 2, "1000"),
    ],
)
def test_bad_input_of_tables_measures_nothing(
    demo_server: TritonServer, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    output = tmp_path / "run"
    done = here("tables", "--url", demo_server.endpoints.url("grpc"), *words, "--output", str(output), *SHORT)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("loadtest: error: ")
    assert not output.exists()


# --- python -m demo tables ------------------------------------------------------------------------


def demo_tables(tmp_path: Path, *words: str) -> list[str]:
    own = (
        "--log",
        str(tmp_path / "server.log"),
        "--output",
        str(tmp_path / "run"),
        "--store",
        str(tmp_path / "h.json"),
    )
    return [sys.executable, "-m", "demo", "tables", *own, *words]


def test_the_demo_starts_a_server_for_it_and_ends_it(demo_repository: Path, eval_data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        demo_tables(tmp_path, "--dry-run"),
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "T1, T2: sentiment_fp16, sentiment_fp32, sentiment_int8" in done.stdout
    assert "16 users over HTTP" in done.stdout
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_and_reports_what_was_measured(demo_repository: Path, eval_data: Path, tmp_path: Path) -> None:
    words = ("--models", "sentiment_int8", "--warm-up-s", "0.2", "--duration-s", "1.5", "--max-duration-s", "2")
    with subprocess.Popen(
        demo_tables(tmp_path, *words, "--min-requests", "3"),
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            triton.eventually(
                lambda: process.poll() is not None or bool(list((tmp_path / "run/cells").glob("[!.]*.json"))),
                120,
                "the first cell",
            )
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            printed, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1, printed
    assert (tmp_path / "run/report.html").is_file()
    assert "python -m loadtest tables" in printed.splitlines()[-1]  # how to go on
