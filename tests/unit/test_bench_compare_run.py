"""A run over contestants of its own making: who cannot start, fails in the middle or answers wrongly is told apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench.compare import machine, report, run
from bench.compare.contestant import IN_PROCESS, SERVER, Contestant, Unavailable, Workload
from bench.compare.contestants import everybody, selected
from bench.compare.machine import Rates
from bench.compare.rows import ours
from bench.compare.run import Plan
from bench.compare.texts import lengths
from bench.compare.workload import Work

TEXTS = [f"text {number}" for number in range(64)]
TOKENS = [8 + number % 5 for number in range(64)]
LABELS = ["odd" if number % 2 else "even" for number in range(64)]


class Right:
    detail = "decided here"

    def classify(self, text: str) -> str:
        return LABELS[int(text.split()[1])]


class RightInBulk(Right):
    def classify_all(self, texts: Sequence[str]) -> list[str]:
        return [self.classify(text) for text in texts]


class Wrong:
    def classify(self, text: str) -> str:
        return "even"


class FailsLater:
    def __init__(self) -> None:
        self.blocks = 0

    def classify_all(self, texts: Sequence[str]) -> list[str]:
        self.blocks += 1
        if self.blocks > 3:  # two calls are the warm-up
            raise OSError("the process is gone")
        return ["even"] * len(texts)

    def classify(self, text: str) -> str:
        return "even"


class Fails:
    def classify(self, text: str) -> str:
        raise OSError("no route")


class Stage:
    """Makes contestants, and knows who is up."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.starts: list[str] = []

    def contestant(self, name: str, make: Callable[[], object], where: str = SERVER) -> Contestant:
        @contextlib.contextmanager
        def start(workload: Workload) -> Iterator[object]:
            answerer = make()
            self.up.add(name)
            self.starts.append(name)
            try:
                yield answerer
            finally:
                self.up.remove(name)

        return Contestant(name, "defaults", where, start, "fp32")  # type: ignore[arg-type]


def not_here() -> object:
    raise Unavailable("it needs a moon")


def broken() -> object:
    raise KeyError("x")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(run, "labels", lambda *_: LABELS)
    monkeypatch.setattr(machine, "measured", lambda: Rates(50.0, None, 100.0))
    monkeypatch.setattr("bench.compare.stage.WARM_UP_S", 0.01)
    monkeypatch.setattr("bench.compare.measure.PAUSE_S", 0.0)
    return Stage()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16}')
    workload = Workload(tmp_path, ["even", "odd"], 2, TEXTS, 512, "demo")
    return Work(workload, TOKENS, lengths(TOKENS), LABELS)


def test_every_row_comes_back_with_figures_or_a_reason(stage: Stage, work: Work) -> None:
    contestants = [
        stage.contestant(ours.BEST, Right),
        stage.contestant("bulk", RightInBulk, IN_PROCESS),
        stage.contestant("wrong", Wrong),
        stage.contestant("not here", not_here),
        stage.contestant("broken", broken),
        stage.contestant("fails", Fails),
        stage.contestant("fails later", FailsLater),
    ]
    result = run.run(contestants, work, Plan(rounds=2, seconds=0.02, clients=2))
    rows = {row.name: row for row in result.rows}
    assert list(rows) == [contestant.name for contestant in contestants]
    assert not stage.up

    best, bulk = rows[ours.BEST], rows["bulk"]
    assert not best.status and best.settings == "defaults (decided here)"
    assert best.labels_equal == 1.0 and best.answered > 0 and best.p99_ms is not None
    assert best.reference_ratio is not None and best.reference_ratio.median == 1.0
    assert not bulk.status and bulk.p50_ms is None and bulk.sentences_per_s is not None
    assert len(result.half_loads) == 2

    assert rows["wrong"].status.startswith("invalid") and rows["wrong"].sentences_per_s is not None
    assert rows["not here"].status == "unavailable: it needs a moon"
    assert rows["broken"].status.startswith("unavailable: cannot be started: KeyError")
    assert rows["fails"].status == "unavailable: fails: OSError: no route"
    later = rows["fails later"]
    assert later.status == "failed: OSError: the process is gone"
    assert later.sentences_per_s is not None  # of the first round
    assert [block.round for block in result.blocks if block.row == "fails later"] == [0]

    text = report.markdown(result)
    assert all(name in text for name in rows)
    assert "- not here: unavailable: it needs a moon" in text
    assert "decided here" in text


def test_rounds_are_interleaved(stage: Stage, work: Work) -> None:
    contestants = [stage.contestant("a", Right), stage.contestant("b", Right)]
    result = run.run(contestants, work, Plan(rounds=3, seconds=0.01, clients=1))
    assert [(block.row, block.round) for block in result.blocks] == [(row, n) for n in range(3) for row in "ab"]
    assert stage.starts == ["a", "b"]  # once for the whole run


def test_short_memory_starts_a_contestant_for_each_turn(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "memory_is_short", lambda: True)
    contestants = [stage.contestant("a", Right), stage.contestant("b", Right)]
    result = run.run(contestants, work, Plan(rounds=2, seconds=0.01, clients=1))
    assert stage.starts == ["a", "b", "a", "b", "a", "b"]
    assert all(row.sentences_per_s for row in result.rows)


def test_an_interrupted_run_ends_what_it_started(stage: Stage, work: Work) -> None:
    class Interrupted(RightInBulk):
        def classify_all(self, texts: Sequence[str]) -> list[str]:
            raise KeyboardInterrupt

    contestants = [stage.contestant("a", Right), stage.contestant("b", Interrupted)]
    with pytest.raises(KeyboardInterrupt):
        run.run(contestants, work, Plan(rounds=1, seconds=0.01, clients=1))
    assert not stage.up


def test_rows_have_distinct_names_and_are_selected_by_a_part_of_them() -> None:
    names = [contestant.name for contestant in everybody()]
    assert len(set(names)) == len(names)
    assert [contestant.name for contestant in selected(["OURS, best, *"])] == [
        name for name in names if name.startswith("ours, best, ")
    ]
    with pytest.raises(ValueError, match="no row matches 'nobody'"):
        selected(["nobody"])
