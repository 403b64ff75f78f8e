"""What commands do around their cells: table, report and last line, whatever happened; what to run next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from loadtest.access import Access
from loadtest.campaign import Finding, conduct, finding_of, follow_up, print_plan, resume_command
from loadtest.cell import FAILED, INVALID
from loadtest.errors import GeneratorError
from loadtest.options import Session
from loadtest.results import RunFolder
from loadtest.sweep import SweepStoppedError
from tests.loadtest_records import closed, result, samples, spec


@pytest.fixture
def session(tmp_path: Path) -> Session:
    words = ("batch-size", "--sizes", "8", "--header", "token=…")
    return Session("grpc://gpu:8001", Access({"token": "x"}), ("bert",), tmp_path / "a run", command=words)


def put(folder: RunFolder) -> Finding:
    folder.put_cell(result(), samples())
    folder.put_cell(closed(4), samples())
    return Finding(True, ("A sentence.",))


def test_table_sentences_report_and_what_to_run_next(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert conduct(session, put, next_step="the next command", series=("batch-size",)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "A sentence." in lines
    assert [line for line in lines if line.startswith("| batch-size_sentiment_b8_u1 ")]
    assert not [line for line in lines if "4 users" in line]
    assert lines[-1].startswith(f"Wrote {session.output} (")
    assert lines[-1].endswith("Next: the next command")
    for name in ("report.html", "report.md", "cells.csv", "report.json"):
        assert name in lines[-1]
        assert (session.output / name).is_file()


def test_a_sweep_that_stopped_reports_what_there_is(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(folder: RunFolder) -> Finding:
        put(folder)
        raise SweepStoppedError("the server is gone")

    assert conduct(session, stop, next_step="the next command") == 1
    printed = capsys.readouterr()
    assert printed.err == "loadtest: error: the server is gone\n"
    assert "| batch-size_sentiment_b8_u1 " in printed.out
    assert printed.out.splitlines()[-1].endswith(f"Next: {resume_command(session)}")
    assert (session.output / "report.html").is_file()


@pytest.mark.parametrize("error", [SweepStoppedError("interrupted"), GeneratorError("broken")])
def test_a_sweep_that_stopped_before_its_first_cell_is_an_error(session: Session, error: Exception) -> None:
    def stop(folder: RunFolder) -> Finding:
        raise error

    with pytest.raises(type(error), match=str(error)):
        conduct(session, stop, next_step="")
    with RunFolder.create_or_resume(session.output, RunFolder.open(session.output).info) as again:
        assert again.read().cells == ()


def test_resuming_names_the_folder_and_no_secret(session: Session) -> None:
    words = shlex.split(resume_command(session))
    assert words == ["python", "-m", "loadtest", *session.command, "--output", str(session.output)]


def test_following_up_keeps_server_and_model(session: Session) -> None:
    folder = shlex.quote(str(session.output))
    assert follow_up(session, "x --output {folder}") == f"x --output {folder} --model bert --url grpc://gpu:8001"
    assert follow_up(session, "x --from {folder}", server=False) == f"x --from {folder} --model bert"


def test_a_cell_that_failed_or_says_nothing_is_not_ok() -> None:
    assert finding_of([result()], "", "said") == Finding(True, ("said",))
    assert not finding_of([result(), result(verdict=FAILED)]).ok
    assert not finding_of([result(verdict=INVALID)]).ok


def test_json_is_all_of_stdout(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    conduct(replace(session, as_json=True), put, next_step="the next command")
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["ok"]
    assert found["findings"] == ["A sentence."]
    assert [cell["spec"]["id"] for cell in found["run"]["cells"]] == [result().spec.id, closed(4).spec.id]
    assert "Next: the next command" in printed.err


def test_a_plan_lists_cells_and_writes_nothing(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_plan([spec(), spec("other", batch_size=16)], session, "A note.") == 0
    out = capsys.readouterr().out
    assert f"| {spec().id} | sentiment | 8 | 1 user | 2 + 10 to 60 |" in out
    assert "A note." in out
    assert "2 cells, about 30 s or more. Nothing was measured" in out
    assert not session.output.exists()
