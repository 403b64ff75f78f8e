"""Which precision the text model calls, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.choice import fastest, served
from export.errors import QualityError
from export.manifest import GraphReport
from export.precisions import Variant
from export.request import ExportRequest, PrecisionReport, Tried
from export.serving import ServingOptions
from export.timing import Timing

ALL = ("fp32", "fp16", "bf16", "int8")


def request(**changes: Any) -> ExportRequest:
    return ExportRequest(**{"name": "n", "output": Path("o"), "precisions": ALL, **changes})


def reports(speeds: dict[str, float], failed: tuple[str, ...] = ()) -> list[PrecisionReport]:
    """A report of each precision, published unless it ``failed``."""
    found = []
    for precision, speed in speeds.items():
        variant = Variant(precision, "onnxruntime", Path("x"), True, GraphReport(0), {}, 8)
        tried = Tried(variant, Timing(speed, (speed, speed), 1.0, 3))
        failure = QualityError("no") if precision in failed else None
        found.append(PrecisionReport(precision, tried, (tried,), failure))
    return found


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"fp32": 10.0, "fp16": 9.0, "int8": 30.0}, "int8"),
        ({"fp32": 97.5, "int8": 100.0}, "fp32"),  # within 3 %
        ({"fp32": 96.5, "int8": 100.0}, "int8"),
        ({"fp32": 50.0, "bf16": 98.0, "int8": 100.0}, "bf16"),
        ({"int8": 1.0}, "int8"),
    ],
)
def test_the_fastest_or_what_is_as_fast_and_more_precise(speeds: dict[str, float], expected: str) -> None:
    assert fastest(speeds) == expected


def test_what_failed_a_gate_is_not_called() -> None:
    choice, why = served(request(), reports({"fp32": 10.0, "fp16": 5.0, "int8": 30.0}, failed=("int8",)))
    assert choice == {"cpu": "fp32", "gpu": "fp16"}
    assert "the fastest of those published" in why
    assert "fp32 10, fp16 5" in why
    assert "int8" not in why


def test_being_as_fast_is_said() -> None:
    _, why = served(request(), reports({"fp32": 98.0, "int8": 100.0}))
    assert "on the CPU n calls fp32, served by onnxruntime, which is within 3% of int8 and more precise" in why


@pytest.mark.parametrize(
    ("hardware", "expected"), [("cpu", {"cpu": "fp32", "gpu": "fp16"}), ("gpu", {"cpu": "int8", "gpu": "fp32"})]
)
def test_what_is_asked_for_is_called_on_the_hardware_of_the_config(hardware: str, expected: dict[str, str]) -> None:
    asked = request(serve_precision="fp32", options=ServingOptions(hardware=hardware))
    choice, why = served(asked, reports({"fp32": 10.0, "fp16": 5.0, "int8": 30.0}))
    assert choice == expected
    assert ("as --serve-precision asks" in why) == (hardware == "cpu")


def test_nothing_is_served_when_what_is_asked_for_failed() -> None:
    failed = reports({"fp32": 10.0, "int8": 30.0}, failed=("int8",))
    assert served(request(serve_precision="int8"), failed) == ({}, "")
    assert served(request(), reports({"int8": 30.0}, failed=("int8",))) == ({}, "")


def test_a_gpu_is_served_what_there_is() -> None:
    assert served(request(), reports({"bf16": 10.0, "int8": 30.0}))[0] == {"cpu": "int8", "gpu": "bf16"}
