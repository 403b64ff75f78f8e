"""How long a sweep will still take, and a cell in a line."""

from __future__ import annotations

import pytest

from loadtest.cell import FAILED
from loadtest.progress import OVERHEAD_S, Progress, TimeLeft, cell_line, duration_text, expected_s
from tests.loadtest_records import result, spec


def test_before_the_first_cell_the_settings_say_how_long() -> None:
    specs = [spec(str(n), warm_up_s=2.0, duration_s=10.0) for n in range(3)]
    assert TimeLeft(specs).seconds() == 3 * (12.0 + OVERHEAD_S)


def test_what_was_seen_scales_what_is_left() -> None:
    specs = [spec("a"), spec("b", duration_s=20.0), spec("c")]
    left = TimeLeft(specs)
    left.finished(2 * expected_s(specs[0]))  # prolonged to twice its least
    assert left.seconds() == pytest.approx(2 * (expected_s(specs[1]) + expected_s(specs[2])))
    assert left.seconds(spent_s=1.0) == pytest.approx(left.seconds() - 1.0)
    assert left.seconds(spent_s=1000.0) == pytest.approx(2 * expected_s(specs[2]))


def test_cells_that_were_measured_before_take_no_time_and_teach_nothing() -> None:
    specs = [spec("a"), spec("b")]
    left = TimeLeft(specs)
    left.finished(None)
    assert left.seconds() == expected_s(specs[1])
    left.finished(5.0)
    assert left.seconds() == 0


@pytest.mark.parametrize(("seconds", "text"), [(44.6, "45 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")])
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_cell_in_a_line() -> None:
    assert cell_line(result()) == "sentiment, batch size 8, 1 user: 400.0 sentences/s, p99 80.0 ms, ok"
    failed = result(verdict=FAILED, requests_per_s=0.0, p99_ms=None, failures={"OverloadedError": 7})
    assert cell_line(failed).endswith("0.0 sentences/s, no answer, 7 failed, failed (because)")


def test_without_a_terminal_it_is_a_line_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    specs = [spec("a"), spec("b", batch_size=16)]
    with Progress(specs) as progress:
        for cell in specs:
            progress.begin(cell)
            progress.end(result(cell), kept=cell.id == "a")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] sentiment, batch size 8, ")
    assert lines[0].endswith("(measured before); about 15 s left")
    assert lines[1].startswith("[2/2] sentiment, batch size 16, ")
    assert "left" not in lines[1]
