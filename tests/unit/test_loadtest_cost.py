"""The cost of a thousand requests: the formula with its units, checked by hand; what cannot be paid for."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.cell import Capacity, RunInfo
from loadtest.commands.cost import newest_with_capacity
from loadtest.conclusions.cost import cost_of, requests_a_month, worked
from loadtest.errors import ResultsError, UsageError
from loadtest.results import RunFolder
from tests.loadtest_records import opened, samples

INFO = RunInfo(("capacity",), "2026-11-22T03:00:00+00:00", "2 cores")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The command line takes SIGTERM; these tests give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run_folder(path: Path, rate_per_s: float | None = 100.0, *models: str, bound: bool = True) -> Path:
    """A run with one cell and a capacity for each of ``models``."""
    with RunFolder.create_or_resume(path, INFO) as folder:
        folder.put_cell(opened(100), samples())
        for model in models or ("sentiment",):
            cell = "capacity_sentiment_b1_r100" if rate_per_s is not None else ""
            folder.put_capacity(Capacity(model, 500.0, 0.001, 16, "", rate_per_s, cell, rate_is_bound=bound))
    return path


def test_a_month_of_730_hours_at_100_requests_a_second() -> None:
    # 100 /s x 3,600 s/h = 360,000 /h; x 730 h = 262,800,000 a month.
    assert requests_a_month(100) == 262_800_000
    # $200 / 262,800,000 = $0.000000761035 each, $0.000761035 for 1,000.
    assert cost_of("mine", 200, 100).per_1000_requests == pytest.approx(0.000761035, rel=1e-6)


def test_a_server_that_is_idle_half_the_month_costs_twice_as_much_a_request() -> None:
    full, half = cost_of("mine", 200, 100), cost_of("mine", 200, 100, utilisation=0.5)
    assert half.per_1000_requests == pytest.approx(2 * full.per_1000_requests)
    assert half.utilisation == 0.5


def test_the_published_cost_does_not_follow_from_its_own_row() -> None:
    """$200 a month at 800 requests/s is published as $0.008, 84 times what full load costs: a formula must be shown."""
    assert 0.008 / cost_of("AWS g4dn.xlarge", 200, 800).per_1000_requests == pytest.approx(84.1, abs=0.1)


def test_the_formula_is_shown_with_its_numbers() -> None:
    assert worked(cost_of("mine", 1234.5, 100, currency="EUR ", utilisation=0.7)) == (
        "EUR 1,234.50 / (100 requests/s x 0.7 x 3,600 s x 730 h) x 1,000 = EUR 0.006711"
    )


@pytest.mark.parametrize("price", [0, -1, math.nan, math.inf])
def test_a_price_that_cannot_be(price: float) -> None:
    with pytest.raises(UsageError, match="--monthly-price"):
        cost_of("mine", price, 100)


@pytest.mark.parametrize("utilisation", [0, -0.1, 1.1, math.nan])
def test_a_utilisation_that_cannot_be(utilisation: float) -> None:
    with pytest.raises(UsageError, match="--utilisation"):
        cost_of("mine", 200, 100, utilisation=utilisation)


@pytest.mark.parametrize(
    "flags", [("--monthly-price", "0"), ("--monthly-price", "nan"), ("--monthly-price", "free"), ()]
)
def test_a_price_is_needed_and_positive(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *flags]) == 2
    assert "--monthly-price" in capsys.readouterr().err


def test_the_command_stores_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run")
    assert main(["cost", "--monthly-price", "200", "--from", str(run), "--option", "my server"]) == 0
    (cost,) = RunFolder.open(run).read().costs
    assert cost.option == "my server"
    assert cost.requests_per_s == 100
    assert cost.per_1000_requests == pytest.approx(0.000761035, rel=1e-6)
    printed = capsys.readouterr().out
    assert "price a month / (requests/s x utilisation x 3,600 s x 730 h) x 1,000" in printed
    assert "= $0.000761 for 1,000 requests" in printed
    assert "my server" in (run / "report.md").read_text()


def test_an_option_of_its_own_is_the_machine_that_was_measured(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    assert main(["cost", "--monthly-price", "200", "--from", str(run)]) == 0
    assert [cost.option for cost in RunFolder.open(run).read().costs] == ["2 cores, sentiment"]


def test_a_rate_that_was_not_the_limit_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--monthly-price", "200", "--from", str(run_folder(tmp_path / "run", bound=False))]) == 0
    assert "the limit was not reached" in capsys.readouterr().out


def test_models_of_one_run_have_costs_of_their_own(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 100.0, "sentiment", "other")
    assert main(["cost", "--monthly-price", "200", "--from", str(run), "--option", "mine"]) == 0
    assert {cost.option for cost in RunFolder.open(run).read().costs} == {"mine, sentiment", "mine, other"}


def test_a_run_without_a_capacity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.create_or_resume(tmp_path / "run", INFO) as folder:
        folder.put_cell(opened(100), samples())
    assert main(["cost", "--monthly-price", "200", "--from", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "has no capacity" in error
    assert "python -m loadtest capacity" in error


def test_nothing_within_the_limit_has_no_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", None)
    assert main(["cost", "--monthly-price", "200", "--from", str(run)]) == 1
    assert "no rate of sentiment kept P99 within 500 ms" in capsys.readouterr().err
    assert RunFolder.open(run).read().costs == ()


def test_the_newest_run_with_a_capacity(tmp_path: Path) -> None:
    older, newer = run_folder(tmp_path / "a"), run_folder(tmp_path / "b")
    (newer / "capacity/sentiment.json").touch()
    with RunFolder.create_or_resume(tmp_path / "c", INFO):
        pass  # a run without one
    assert newest_with_capacity(tmp_path) == newer
    assert older != newer


def test_no_run_has_a_capacity(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"python -m loadtest capacity .* first"):
        newest_with_capacity(tmp_path)
