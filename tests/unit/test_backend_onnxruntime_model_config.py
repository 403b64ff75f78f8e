"""A config against a graph: completed, taken, refused."""

from __future__ import annotations

from typing import Any

import pytest

from backends.onnxruntime.errors import LoadError
from backends.onnxruntime.graph import Graph, Tensor
from backends.onnxruntime.model_config import check, completed_max_batch_size, completed_tensors, needs_completion

IDS = Tensor("input_ids", "TYPE_INT64", (-1, -1))
LOGITS = Tensor("logits", "TYPE_FP32", (-1, 2))
BATCHED = Graph({"input_ids": IDS}, {}, {"logits": LOGITS})
FIXED = Graph({"x": Tensor("x", "TYPE_FP32", (3, -1))}, {}, {"y": Tensor("y", "TYPE_FP32", (3,))})


def io(name: str, data_type: str, *dims: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims), **more}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "max_batch_size": 8,
        "input": [io("input_ids", "TYPE_INT64", -1)],
        "output": [io("logits", "TYPE_FP32", 2)],
        **changes,
    }


def test_a_config_with_inputs_and_outputs_is_not_completed() -> None:
    assert not needs_completion(config())
    assert needs_completion(config(input=[]))
    assert needs_completion({})


def test_completed_with_batches() -> None:
    assert completed_max_batch_size({}, BATCHED) == 4
    assert completed_max_batch_size({"max_batch_size": 16}, BATCHED) == 16
    assert completed_tensors(BATCHED.inputs, 4) == [io("input_ids", "TYPE_INT64", -1)]
    assert completed_tensors(BATCHED.outputs, 4) == [io("logits", "TYPE_FP32", 2)]


def test_completed_without_batches() -> None:
    assert completed_max_batch_size({}, FIXED) == 0
    assert completed_tensors(FIXED.inputs, 0) == [io("x", "TYPE_FP32", 3, -1)]
    assert completed_tensors({"s": Tensor("s", "TYPE_INT64", ())}, 0) == [io("s", "TYPE_INT64", 1)]


def test_batches_of_a_graph_that_takes_none_are_refused() -> None:
    with pytest.raises(LoadError, match="does not support batching while non-zero max_batch_size"):
        completed_max_batch_size({"max_batch_size": 2}, FIXED)


def test_a_vector_of_a_batch_cannot_be_completed() -> None:
    with pytest.raises(LoadError, match="'n' has only a batch dimension"):
        completed_tensors({"n": Tensor("n", "TYPE_INT64", (-1,))}, 4)


@pytest.mark.parametrize(
    "fitting",
    [
        config(),
        config(input=[io("input_ids", "TYPE_INT64", 128)]),  # an open dimension of the graph takes any
        config(output=[io("logits", "TYPE_FP32", 1, reshape={"shape": ["2"]})]),
        config(
            max_batch_size=0, input=[io("input_ids", "TYPE_INT64", 1, 5)], output=[io("logits", "TYPE_FP32", -1, 2)]
        ),
    ],
)
def test_fits(fitting: dict[str, Any]) -> None:
    check(fitting, BATCHED)


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (config(input=[]), "0 inputs and 1 outputs"),
        (
            config(input=[io("ids", "TYPE_INT64", -1)]),
            "unexpected inference input 'ids', allowed inputs are: input_ids",
        ),
        (config(input=[io("input_ids", "TYPE_INT32", -1)]), "expects datatype TYPE_INT32 for input 'input_ids', model"),
        (config(input=[io("input_ids", "TYPE_INT64", -1, -1)]), "model expects 2 dimensions .* specifies 3 dimensions"),
        (
            config(input=[io("input_ids", "TYPE_INT64", -1), io("mask", "TYPE_INT64", -1)]),
            r"expects 2 inputs \(input_ids, mask\), model provides 1 \(input_ids\)",
        ),
        (config(output=[io("scores", "TYPE_FP32", 2)]), "unexpected inference output 'scores'"),
        (config(output=[io("logits", "TYPE_FP16", 2)]), "TYPE_FP16 for output 'logits', model provides TYPE_FP32"),
        (config(output=[io("logits", "TYPE_FP32", 3)]), r"shape \[-1, 3\]"),
        (config(output=[io("logits", "TYPE_FP32", -1)]), r"shape \[-1, -1\]"),  # C++ wants outputs exact
        (config(sequence_batching={"oldest": {}}), "sequence_batching is not served"),
        (config(batch_input=[{}]), "batch_input is not served"),
        (config(input=[io("input_ids", "TYPE_INT64", -1, allow_ragged_batch=True)]), "allow_ragged_batch"),
        (config(input=[io("input_ids", "TYPE_INT64", -1, optional=True)]), "expects 0 inputs"),
    ],
)
def test_refused(unfit: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        check(unfit, BATCHED)


def test_a_fixed_first_dimension_takes_no_batches() -> None:
    fixed = {"max_batch_size": 3, "input": [io("x", "TYPE_FP32", -1)], "output": [io("y", "TYPE_FP32")]}
    with pytest.raises(LoadError, match="because max_batch_size > 0"):
        check(fixed, FIXED)


def test_scalars_are_ones() -> None:
    graph = Graph({"s": Tensor("s", "TYPE_INT64", ())}, {}, {"t": Tensor("t", "TYPE_INT64", ())})
    scalars = {"max_batch_size": 0, "input": [io("s", "TYPE_INT64", 1)], "output": [io("t", "TYPE_INT64", 1)]}
    check(scalars, graph)
    with pytest.raises(LoadError, match=r"only 1 in its dims, the configuration has \[2\]"):
        check({**scalars, "output": [io("t", "TYPE_INT64", 2)]}, graph)


def test_optional_inputs_are_initialisers_without_batches() -> None:
    graph = Graph({"x": Tensor("x", "TYPE_FP32", (-1,))}, {"w": Tensor("w", "TYPE_FP32", (1,))}, {"y": LOGITS})
    inputs = [io("x", "TYPE_FP32", -1), io("w", "TYPE_FP32", 1, optional=True)]
    given = {"max_batch_size": 0, "input": inputs, "output": [io("y", "TYPE_FP32", -1, 2)]}
    check(given, graph)
    with pytest.raises(LoadError, match="optional input 'w' is not supported for models that support batching"):
        check({**given, "max_batch_size": 4, "input": inputs[::-1]}, graph)
