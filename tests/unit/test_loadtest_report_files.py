"""What a report is written into: page, Markdown, CSV, JSON, README; escaping, and the same bytes for the same run."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.cell import FAILED, CellResult, Run
from loadtest.commands import report as command
from loadtest.errors import ResultsError, UsageError
from loadtest.flags import Parser
from loadtest.report import cells_markdown, table_markdown, update_readme, write_report
from loadtest.report.csv_file import cells_csv
from loadtest.report.html import page
from loadtest.report.markdown import report_text, table_lines
from loadtest.report.plots import all_plots
from loadtest.report.tables import build
from loadtest.results import RunFolder
from tests.conftest import REPOSITORY_ROOT
from tests.loadtest_runs import BATCH_CELLS, cell, empty_run, full_run, samples_by_id, samples_of

HOSTILE = "<script>alert('x')</script> & | ` \" $a$ <!-- end of table T3 -->"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks that elements are closed in order; collects ids, addresses and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def hostile(result: CellResult) -> CellResult:
    """``result`` with markup in every text that comes from outside."""
    return replace(
        result,
        spec=replace(result.spec, model=HOSTILE),
        setting=replace(result.setting, hardware=HOSTILE, instances=HOSTILE, batching=HOSTILE, lengths=HOSTILE),
        client=replace(result.client, failures={HOSTILE: 3}, failure_examples={HOSTILE: HOSTILE}),
        generator=replace(result.generator, lengths=HOSTILE),
        verdict=FAILED if result.spec.batch_size == 64 else result.verdict,
        reasons=(HOSTILE,) if result.spec.batch_size == 64 else (),
        warnings=(HOSTILE,),
    )


@pytest.fixture(scope="module")
def hostile_run() -> Run:
    run = full_run()
    info = replace(run.info, note=HOSTILE, command=("tables", "--note", HOSTILE), machine=HOSTILE)
    return replace(
        run,
        name=HOSTILE,
        info=info,
        cells=tuple(hostile(result) for result in run.cells),
        facts=tuple(replace(fact, model=HOSTILE, architecture=HOSTILE, data=HOSTILE) for fact in run.facts),
        capacities=tuple(replace(capacity, model=HOSTILE) for capacity in run.capacities),
        costs=tuple(replace(cost, option=HOSTILE, currency="<b>") for cost in run.costs),
        hardware=tuple(replace(row, hardware=HOSTILE, workload=HOSTILE, run=HOSTILE) for row in run.hardware),
    )


@pytest.fixture(scope="module")
def html() -> str:
    run = full_run()
    return page(run, samples_by_id(run).get)


def test_a_report_is_a_page_markdown_csv_json_and_a_file_a_table(tmp_path: Path) -> None:
    run = full_run()
    written = write_report(run, samples_by_id(run).get, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "report.html",
        "report.md",
        "cells.csv",
        "report.json",
        *(f"tables/T{number}.md" for number in range(1, 7)),
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


def test_the_same_run_makes_the_same_bytes(tmp_path: Path) -> None:
    run = full_run()
    first = write_report(run, samples_by_id(run).get, tmp_path / "first")
    second = write_report(run, samples_by_id(run).get, tmp_path / "second")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_page_is_whole_and_asks_for_nothing(html: str) -> None:
    reader = read(html)
    assert len(reader.ids) == len(set(reader.ids)), "ids are unique, those of the plots included"
    assert all(address.startswith("#") or address == "data:," for address in reader.addresses)
    assert {address[1:] for address in reader.addresses if len(address) > 1 and address[0] == "#"} <= set(reader.ids)
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html
    assert reader.scripts == 0
    assert "default-src 'none'" in html


def test_markup_from_outside_is_text_everywhere(hostile_run: Run, tmp_path: Path) -> None:
    content = page(hostile_run, samples_by_id(full_run()).get)
    reader = read(content)
    assert reader.scripts == 0
    assert "<script" not in content
    assert "&lt;script&gt;" in content
    markdown = report_text(hostile_run)
    assert "<script" not in markdown
    assert "<!--" not in markdown
    for plot in all_plots(hostile_run, samples_by_id(full_run()).get):
        ElementTree.fromstring(plot.svg)  # noqa: S314 - our own


def test_a_cell_of_a_markdown_table_never_breaks_its_row(hostile_run: Run) -> None:
    for number in range(1, 7):
        lines = table_lines(build(number, hostile_run))
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert len({len(line) for line in lines}) == 1, "padded: readable in a terminal"


def test_plots_of_every_kind_with_published_limit_and_failed_cells() -> None:
    run = full_run()
    plots = {plot.name: plot for plot in all_plots(run, samples_by_id(run).get)}
    kinds = {name.rstrip("0123456789-") for name in plots}
    assert kinds == {"batch-throughput", "batch-p", "load", "server-time", "distribution"}
    throughput = plots["batch-throughput"]
    assert [key.label for key in throughput.keys] == [
        "measured here: sentiment",
        "published, no method given",
        "failed or invalid: no number",
    ]
    assert "var(--plot-published)" in throughput.svg
    assert "var(--plot-bad)" in throughput.svg
    assert "stroke-dasharray" in throughput.svg
    assert "var(--plot-limit)" in plots["batch-p99"].svg
    assert "var(--plot-limit)" in plots["load-1"].svg
    assert "#fa57" not in "".join(plot.svg for plot in plots.values()), "every stand-in for a colour was replaced"


def test_plots_draw_only_what_is_there() -> None:
    assert all_plots(empty_run(), {}.get) == []
    uncounted = cell("batch-size-1", "batch-size", counted=False)
    assert [plot.name for plot in all_plots(empty_run(cells=(uncounted,)), {}.get)] == ["batch-throughput", "batch-p99"]
    only_failed = empty_run(cells=(BATCH_CELLS[-1],))
    names = [plot.name for plot in all_plots(only_failed, lambda _id: samples_of(BATCH_CELLS[-1]))]
    assert names == ["batch-throughput", "batch-p99", "server-time-1"], "no distribution of a failed cell"
    broken = cell("capacity-rate-9", "capacity", rate_per_s=9, per_s=0, verdict=FAILED, counted=False)
    assert [plot.name for plot in all_plots(empty_run(cells=(broken,)), {}.get)] == ["load-1"]


def test_more_sweeps_than_colours_are_not_dropped_in_silence() -> None:
    cells = tuple(cell(f"batch-size-{n}", "batch-size", model=f"model-{n}") for n in range(8))
    plots = all_plots(empty_run(cells=cells), {}.get)
    assert plots[0].caption.endswith("6 of 8 sweeps are drawn.")
    assert len(build(3, empty_run(cells=cells)).rows) == 8 * 5


def test_a_page_of_an_empty_run_and_of_one_without_answers() -> None:
    read(page(empty_run(), {}.get))
    silent = cell("batch-size-1", "batch-size", per_s=0, verdict=FAILED, reasons=("nothing was answered",))
    silent = replace(silent, client=replace(silent.client, latency_ms={}, mean_latency_ms=None, max_latency_ms=None))
    content = page(empty_run(cells=(silent,)), {}.get)
    read(content)
    assert "nothing was answered" in content


def rows(cells: tuple[CellResult, ...]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(cells_csv(cells))))


def test_every_csv_row_says_what_was_measured_and_how() -> None:
    found = rows(full_run().cells)
    assert len(found) == 22
    one = next(row for row in found if row["cell"] == "batch-size-16")
    expected = {
        "verdict": "ok",
        "triton_version": "2.51.0",
        "model": "sentiment",
        "precision": "int8",
        "batch_size": "16",
        "instances": "1 x KIND_CPU",
        "protocol": "gRPC",
        "workload": "closed",
        "users": "4",
        "rate_per_s": "",
        "duration_s": "10.0",
        "failures": "0",
        "sentences_per_s": "97.6",
        "server_device": "CPU",
        "server_utilisation": "0.83",
        "tensor_model_name": "sentiment_int8",
    }
    assert {name: one[name] for name in expected} == expected
    for name in (
        "hardware",
        "lengths",
        "batching",
        "p50_ms",
        "p99_ms_low",
        "model_queue_ms",
        "generator_max_cpu_share",
    ):
        assert one[name]
    assert next(row for row in found if row["cell"] == "capacity-rate-50")["rate_per_s"] == "50"


def test_csv_leaves_blank_what_a_failed_cell_would_say_of_the_server() -> None:
    row = rows((BATCH_CELLS[-1],))[0]
    assert row["verdict"] == "failed"
    assert row["failures_by_kind"] == "OverloadedError: 9"
    blank = [name for name in row if name.startswith(("requests_per", "sentences_per", "p50", "p90", "p95", "p99"))]
    assert len(blank) == 18
    blank += ["mean_ms", "max_ms", "server_utilisation", "model_queue_ms"]
    assert [row[name] for name in blank] == [""] * len(blank)


def test_csv_without_server_counters_and_without_cells() -> None:
    row = rows((cell("batch-size-1", "batch-size", counted=False),))[0]
    assert row["server_utilisation"] == row["model_name"] == ""
    assert cells_csv(()).startswith("cell,series,verdict")


def test_csv_text_is_not_taken_for_a_formula() -> None:
    result = cell("batch-size-1", "batch-size", warnings=("=HYPERLINK(1)",))
    assert rows((result,))[0]["warnings"] == "'=HYPERLINK(1)"


def test_json_holds_the_run_and_its_tables(tmp_path: Path) -> None:
    run = full_run()
    write_report(run, {}.get, tmp_path, limit_ms=321)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["p99_limit_ms"] == 321
    assert len(content["run"]["cells"]) == 22
    assert content["run"]["cells"][-1]["verdict"] == "invalid"
    assert list(content["tables"]) == ["T1", "T2", "T3", "T4", "T5", "T6"]
    assert "ok, over 321 ms" in json.dumps(content["tables"]["T3"])


def test_the_terminal_s_table_has_every_reason_and_warning() -> None:
    text = cells_markdown(BATCH_CELLS)
    assert "- batch-size-64: 9 of 25 requests failed" in text
    assert "- batch-size-32: 32 answers are too few" in text
    assert cells_markdown(()) == "No cell was measured."


def readme_text(numbers: range) -> str:
    return "# Mine\n" + "".join(
        f"\nbefore {n}\n<!-- table T{n} -->\nold {n}\n<!-- end of table T{n} -->\n" for n in numbers
    )


def test_a_readme_s_tables_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(readme_text(range(1, 6)) + "after\r\n", newline="")
    run = full_run()
    update_readme(readme, run)
    once = readme.read_bytes()
    text = once.decode()
    assert "old" not in text
    for number in range(1, 6):
        assert f"before {number}\n<!-- table T{number} -->\n{table_markdown(number, run)}\n<!-- end" in text
    assert text.endswith("<!-- end of table T5 -->\nafter\r\n")
    update_readme(readme, run)
    assert readme.read_bytes() == once


def test_hostile_names_do_not_end_a_readme_s_table(tmp_path: Path, hostile_run: Run) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(readme_text(range(1, 6)))
    for _ in range(2):
        update_readme(readme, hostile_run)


@pytest.mark.parametrize(
    "text",
    [
        readme_text(range(1, 5)),
        readme_text(range(1, 6)) + readme_text(range(3, 4)),
        readme_text(range(1, 6)).replace("<!-- table T3 -->", "x").replace("<!-- end of table T3 -->", "y"),
        readme_text(range(1, 5)) + "<!-- end of table T5 --> <!-- table T5 -->",
    ],
)
def test_a_readme_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ResultsError, match=r"expected one of each, in this order; put both where T[35] is to stand"):
        update_readme(readme, full_run())
    assert readme.read_text() == text


def test_a_readme_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read"):
        update_readme(tmp_path / "README.md", full_run())


def run_folder(path: Path) -> None:
    run = full_run()
    with RunFolder.create_or_resume(path, run.info) as folder:
        for result in run.cells:
            folder.put_cell(result, samples_of(result))
        for capacity in run.capacities:
            folder.put_capacity(capacity)


def test_the_command_reports_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path / "run")
    readme = tmp_path / "README.md"
    readme.write_text(readme_text(range(1, 6)))
    parser = Parser()
    command.add_arguments(parser)
    words = [str(tmp_path / "run"), "--limit-ms", "100", "--readme", str(readme)]
    assert command.run(parser.parse_args(words)) == 0
    printed = capsys.readouterr().out
    assert "ok, over 100 ms" in printed
    assert (tmp_path / "run/report.html").as_uri() in printed
    assert "latency distribution" in (tmp_path / "run/report.html").read_text().lower()
    assert "ok, over 100 ms" in readme.read_text()


def test_the_command_refuses_a_limit_that_cannot_be_and_a_folder_that_is_no_run(tmp_path: Path) -> None:
    parser = Parser()
    command.add_arguments(parser)
    with pytest.raises(UsageError, match="a number above 0"):
        parser.parse_args([str(tmp_path), "--limit-ms", "0"])
    with pytest.raises(ResultsError, match="not a run folder"):
        command.run(parser.parse_args([str(tmp_path)]))


def test_nothing_heavy_is_imported_before_a_page_is_written() -> None:
    heavy = ("matplotlib", "jinja2", "gevent", "grpc")
    code = f"import sys, loadtest.commands.report; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY_ROOT, check=True)
    assert ran.stdout.strip() == "[]"
