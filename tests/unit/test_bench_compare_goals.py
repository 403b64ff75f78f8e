"""The goals table is filled in from one run's figures."""

from __future__ import annotations

import dataclasses

import pytest

from bench.compare.contestant import IN_PROCESS, SERVER
from bench.compare.goals import FIRST_SERVICE, NOT_MEASURED, Judged, Result, judged
from bench.compare.latency import HalfLoad
from bench.compare.machine import Arithmetic, Rates
from bench.compare.measure import Block
from bench.compare.rows import fastapi, in_process, ours
from bench.compare.score import Row, Spread

RATES = {
    FIRST_SERVICE: 5.0,
    "Tuned": 40.0,
    ours.FP32: 20.0,
    ours.INT8: 70.0,
    ours.BEST: 80.0,
    in_process.ONE_AT_A_TIME: 50.0,
    in_process.LIMIT: 100.0,
    in_process.PADDED_16: 10.0,
    in_process.PACKED_16: 25.0,
}
SETTINGS = {FIRST_SERVICE: "defaults: a pipeline", "Tuned": "INT8"}


def row(name: str, per_s: float, **changes: object) -> Row:
    made = Row(
        name=name,
        settings=SETTINGS.get(name, ""),
        where=IN_PROCESS if "in process" in name else SERVER,
        precision="fp32",
        status="",
        sentences_per_s=Spread(per_s, per_s, per_s),
        p50_ms=None,
        p99_ms=None,
        reference_ratio=None,
        answered=10,
        failed=0,
        labels_equal=1.0,
        memory_mb=0.0,
        cores=0.0,
        client_cores=0.0,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def result(**changes: object) -> Result:
    rows = [row(name, per_s) for name, per_s in RATES.items()]
    blocks = [Block(name, 0, per_s, None, None, 9, 0, "", 1.0, per_s, 0.0, 0.0) for name, per_s in RATES.items()]
    made = Result(rows, blocks, [Rates(50.0, None, 160.0)], [HalfLoad(40, 10, 30, 15, 25, 0)], 0.0, 2.5, "int8")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def goal(given: Result, beginning: str) -> Judged:
    (found,) = (one for one in judged(given) if one.goal.startswith(beginning))
    return found


@pytest.mark.parametrize(
    ("beginning", "found", "met"),
    [
        ("ours, best / FastAPI", "16.00", "yes"),
        ("ours, best / best other server with its best CPU settings (Tuned)", "2.00", "yes"),
        ("ours INT8 / ours FP32", "3.50; 0.00 points; 100.0%", "yes"),
        ("packed / padded", "2.50", "yes"),
        ("ours, best / the same engine", "1.60", "yes"),
        ("served / in-process limit", "0.80", "no"),
        ("p99 at half", "2.50; of the lone p99: 0.83", "yes"),
        ("share of the measured", "62 % of int8", "yes (of int8: no bf16 here)"),
    ],
)
def test_each_goal_has_its_figure(beginning: str, found: str, met: str) -> None:
    judgement = goal(result(), beginning)
    assert (judgement.found, judgement.met) == (found, met)


def test_only_rows_with_defaults_are_rivals_with_defaults() -> None:
    assert FIRST_SERVICE in goal(result(), "ours, best / best other server, each with its defaults").goal


def test_a_rival_with_wrong_answers_is_no_rival() -> None:
    rows = [row("Tuned", 40.0, status="invalid: x"), row(FIRST_SERVICE, 5.0)]
    assert FIRST_SERVICE in goal(result(rows=rows), "ours, best / best other server with its best").goal


def test_fast_int8_with_lost_accuracy_misses_its_goal() -> None:
    assert goal(result(int8_points_lost=0.4), "ours INT8").met == "no"


def test_what_did_not_run_is_said_so() -> None:
    empty = result(rows=[], blocks=[], rates=[], half_loads=[], best_precision="")
    assert {judgement.found for judgement in judged(empty)} == {NOT_MEASURED}


def test_the_first_service_is_a_row() -> None:
    assert FIRST_SERVICE in {contestant.name for contestant in fastapi.CONTESTANTS}


def test_arithmetic_of_bert_base() -> None:
    # 85 million parameters in the encoder's matrices; attention adds 4 x tokens^2 x hidden in each layer.
    matrices = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert Arithmetic(12, 768, 3072).operations([10, 20]) == 2 * matrices * 30 + 12 * 4 * 768 * (100 + 400)
