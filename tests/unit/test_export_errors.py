"""The tree of export's errors: branches, messages, pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from export import errors
from export.errors import ExportError, GateError, InputError, QualityError, RepositoryError, UsageError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
EXAMPLES: dict[type[Exception], tuple[object, ...]] = {
    UsageError: ("--instances", 0, "at least 1"),
    GateError: ("label_agreement", 0.971, 0.98, "int8", "first differing text: 17"),
}


def example(kind: type[Exception]) -> Exception:
    return kind(*EXAMPLES.get(kind, ("what happened",)))


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_the_root_and_one_branch(kind: type[Exception]) -> None:
    assert issubclass(kind, ExportError)
    branches = [branch for branch in (InputError, QualityError, RepositoryError) if issubclass(kind, branch)]
    assert kind is ExportError or len(branches) == 1


@pytest.mark.parametrize("kind", ALL)
def test_errors_survive_a_process_boundary(kind: type[Exception]) -> None:
    error = example(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_usage_error_names_flag_value_and_expectation() -> None:
    error = UsageError("--instances", 0, "at least 1")
    assert (error.flag, error.value, error.expected) == ("--instances", 0, "at least 1")
    assert str(error) == "--instances: 0 cannot be used; expected at least 1"


def test_gate_error_names_gate_value_limit_precision_and_the_way_out() -> None:
    error = GateError("label_agreement", 0.971, 0.98, "int8", "text 17")
    assert (error.gate, error.value, error.limit, error.precision) == ("label_agreement", 0.971, 0.98, "int8")
    for part in ("int8 is not published", "label_agreement: 0.971", "limit 0.98", "text 17", "--allow label_agreement"):
        assert part in str(error)


def test_gate_error_without_numbers() -> None:
    message = str(GateError("parity", None, None, "fp16"))
    assert "not measurable" in message
    assert "limit" not in message
