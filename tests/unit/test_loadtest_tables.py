"""The plan of all tables: its times, one broken step among others, and which run the default folder goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.access import Access
from loadtest.campaign import Finding
from loadtest.cell import CellSpec, RunInfo
from loadtest.commands import tables
from loadtest.commands.plan import Outcome, Step, carry_out, describe
from loadtest.commands.tables import same_command
from loadtest.errors import GeneratorError, ResultsError
from loadtest.options import Session
from loadtest.progress import OVERHEAD_S
from loadtest.results import RunFolder
from loadtest.sweep import SweepStoppedError
from tests.loadtest_records import result, samples, spec

COMMAND = ("tables", "--url", "grpc://localhost:8001", "--server-pid", "17", "--monthly-price", "200")


def cell(warm_up_s: float = 2, duration_s: float = 8, max_duration_s: float = 40) -> CellSpec:
    return spec(warm_up_s=warm_up_s, duration_s=duration_s, max_duration_s=max_duration_s)


def done(folder: RunFolder) -> Finding:
    return Finding(True, ("done",))


def failing(error: Exception) -> Callable[[RunFolder], Finding]:
    def work(folder: RunFolder) -> Finding:
        raise error

    return work


def folder(path: Path, command: tuple[str, ...] = COMMAND, *, finished: bool = False) -> RunFolder:
    made = RunFolder.create_or_resume(path, RunInfo(command, "2026-11-22T03:00:00+00:00", "2 cores"))
    made.put_cell(result(), samples())
    if finished:
        (path / tables.FINISHED_FILE).touch()
    made.close()
    return made


def session(path: Path, command: tuple[str, ...] = COMMAND) -> Session:
    return Session("grpc://localhost:8001", Access(), ("sentiment",), path, command=command)


# --- Times ----------------------------------------------------------------------------------------


def test_a_step_takes_its_cells_times() -> None:
    step = Step("batch-size", "T3", done, (cell(), cell(1, 4, 10)))
    assert step.least_s == (2 + 8 + OVERHEAD_S) + (1 + 4 + OVERHEAD_S)
    assert step.most_s(cell()) == (2 + 40 + OVERHEAD_S) + (1 + 10 + OVERHEAD_S)


def test_a_search_takes_at_most_so_many_cells_of_the_least_duration() -> None:
    step = Step("capacity", "", done, more_cells=8)
    assert step.least_s == 0
    assert step.most_s(cell()) == 8 * (2 + 8 + OVERHEAD_S)


def test_the_plan_adds_up() -> None:
    steps = [Step("one", "first", done, (cell(),)), Step("two", "second", done, more_cells=2), Step("three", "-", done)]
    lines = describe(steps, cell()).splitlines()
    assert lines[2:5] == [
        "| one | first | 1 | 13 s | 45 s |",
        "| two | second | 0 + up to 2 | 0 s | 26 s |",
        "| three | - | - | - | - |",
    ]
    assert lines[5].endswith("| 13 s | 1 min 11 s |")


# --- One step after another -----------------------------------------------------------------------


def carried_out(path: Path, *steps: Step) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return carry_out(steps, folder(path), said.append), said


def test_a_broken_step_does_not_lose_the_others(tmp_path: Path) -> None:
    broken = Step("two", "", failing(GeneratorError("no more processes")))
    outcome, said = carried_out(tmp_path / "run", Step("one", "", done), broken, Step("three", "", done))
    assert outcome.finding == Finding(False, ("done", "Step two was not done: no more processes", "done"))
    assert outcome.broken == ("two",)
    assert [line.split(":")[0] for line in said] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]


def test_the_worst_step_decides(tmp_path: Path) -> None:
    limit_broken = Step("two", "", lambda _: Finding(False, ("over the limit",)))
    outcome, _ = carried_out(tmp_path / "run", Step("one", "", done), limit_broken, Step("three", "", done))
    assert not outcome.finding.ok
    assert outcome.broken == ()  # it was done; what it found is not good
    assert carried_out(tmp_path / "run", Step("one", "", done))[0].finding.ok


def test_no_step_follows_ctrl_c_or_a_server_that_is_gone(tmp_path: Path) -> None:
    after: list[str] = []
    third = Step("three", "", lambda _: after.append("three") or Finding(True))  # type: ignore[func-returns-value]
    with pytest.raises(SweepStoppedError, match="the server is gone"):
        carried_out(tmp_path / "run", Step("two", "", failing(SweepStoppedError("the server is gone"))), third)
    assert after == []


def test_a_mistake_in_a_step_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        carried_out(tmp_path / "run", Step("one", "", failing(ZeroDivisionError())))


# --- The default folder ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (COMMAND, True),
        (("tables", "--url", "grpc://localhost:8001", "--server-pid", "99", "--monthly-price", "200"), True),
        (("tables", "--url", "grpc://localhost:8001", "--server-pid=99", "--monthly-price", "200"), True),
        (("tables", "--url", "grpc://localhost:9001", "--server-pid", "17", "--monthly-price", "200"), False),
        (("tables", "--url", "grpc://localhost:8001"), False),
    ],
)
def test_the_same_command_but_for_the_server_s_process(other: tuple[str, ...], same: bool) -> None:
    assert same_command(COMMAND, other) is same


def test_an_unfinished_run_of_the_same_command_goes_on(tmp_path: Path) -> None:
    folder(tmp_path / "tables")
    tables._make_room(session(tmp_path / "tables"))
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
    assert RunFolder.open(tmp_path / "tables").cell(result().spec.id) is not None


@pytest.mark.parametrize(("finished", "command"), [(True, COMMAND), (False, ("tables", "--p99-ms", "100"))])
def test_any_other_run_is_moved_aside_whole(tmp_path: Path, finished: bool, command: tuple[str, ...]) -> None:
    folder(tmp_path / "tables", command, finished=finished)
    tables._make_room(session(tmp_path / "tables"))
    (aside,) = tmp_path.iterdir()
    assert aside.name == "tables-2026-11-22t03-00-00"
    assert RunFolder.open(aside).cell(result().spec.id) is not None


def test_an_empty_place_is_left_alone(tmp_path: Path) -> None:
    tables._make_room(session(tmp_path / "tables"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_under_way_is_not_moved(tmp_path: Path) -> None:
    folder(tmp_path / "tables", finished=True)
    with (
        RunFolder.create_or_resume(tmp_path / "tables", RunInfo((), "", "")),
        pytest.raises(ResultsError, match="another run"),
    ):
        tables._make_room(session(tmp_path / "tables"))
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
