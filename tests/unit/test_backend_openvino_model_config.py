"""A config against a graph: completed, taken, refused."""

from __future__ import annotations

from typing import Any

import pytest

from backends.openvino.errors import LoadError
from backends.openvino.graph import NO_BOUND, Dim, Graph, Tensor
from backends.openvino.model_config import (
    check,
    check_inputs,
    check_kind,
    check_outputs,
    completed_max_batch_size,
    completed_tensors,
    needs_completion,
)


def tensor(name: str, element_type: str, *sizes: int, has_batch: bool = False) -> Tensor:
    return Tensor(name, element_type, tuple(Dim(0, NO_BOUND) if s == -1 else Dim(s, s) for s in sizes), has_batch)


def graph(inputs: list[Tensor], outputs: list[Tensor]) -> Graph:
    return Graph({one.name: one for one in inputs}, {one.name: one for one in outputs})


OPEN = graph([tensor("input_ids", "i64", -1, -1)], [tensor("logits", "f32", -1, 2)])
FIXED = graph([tensor("x", "f32", 8, 3)], [tensor("y", "f32", 8)])
LAID_OUT = graph([tensor("x", "f32", 8, 3, has_batch=True)], [tensor("y", "f32", 8, 3, has_batch=True)])


def io(name: str, data_type: str, *dims: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims), **more}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "max_batch_size": 0,
        "input": [io("input_ids", "TYPE_INT64", -1, -1)],
        "output": [io("logits", "TYPE_FP32", -1, 2)],
        **changes,
    }


def batched(**changes: Any) -> dict[str, Any]:
    return config(
        **{
            "max_batch_size": 8,
            "input": [io("input_ids", "TYPE_INT64", -1)],
            "output": [io("logits", "TYPE_FP32", 2)],
            **changes,
        }
    )


def hold(given: dict[str, Any], against: Graph = OPEN, *, reshape: bool = False) -> None:
    check(given)
    check_inputs(given, against, reshape_io_layers=reshape)
    check_outputs(given, against)


def test_a_config_with_inputs_and_outputs_is_not_completed() -> None:
    assert not needs_completion(config())
    assert needs_completion(config(input=[]))
    assert needs_completion({})


def test_only_a_graph_that_names_its_batch_dimension_is_completed_with_batches() -> None:
    assert completed_max_batch_size({}, LAID_OUT) == 4
    assert completed_max_batch_size({"max_batch_size": 16}, LAID_OUT) == 16
    assert completed_max_batch_size({}, OPEN) == 0
    assert completed_tensors(LAID_OUT.inputs, 4) == [io("x", "TYPE_FP32", 3)]


def test_completed_without_batches() -> None:
    assert completed_tensors(OPEN.inputs, 0) == [io("input_ids", "TYPE_INT64", -1, -1)]
    assert completed_tensors(FIXED.outputs, 0) == [io("y", "TYPE_FP32", 8)]


def test_what_the_cpp_backend_completes_wrongly_is_refused() -> None:
    with pytest.raises(LoadError, match=r"'logits' has shape \[-1, 2\], open in part"):
        completed_tensors(OPEN.outputs, 0)


def test_a_type_that_is_not_served_is_not_completed() -> None:
    with pytest.raises(LoadError, match="'d' is f64; the backend serves boolean"):
        completed_tensors({"d": tensor("d", "f64", 3)}, 0)


@pytest.mark.parametrize(
    ("fitting", "against"),
    [
        (config(), OPEN),
        (config(input=[io("input_ids", "TYPE_INT32", -1, 128)]), OPEN),  # types are converted, open dims take any
        (config(output=[io("logits", "TYPE_FP16", 5, 2)]), OPEN),
        (config(output=[io("logits", "TYPE_FP32", 1, reshape={"shape": ["-1", "2"]})]), OPEN),
        (batched(), OPEN),
        (batched(input=[io("x", "TYPE_FP32", -1)], output=[io("y", "TYPE_FP32")]), FIXED),  # C++: -1 fits every input
    ],
)
def test_fits(fitting: dict[str, Any], against: Graph) -> None:
    hold(fitting, against)


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (config(input=[]), "0 inputs and 1 outputs"),
        (config(input=[io("ids", "TYPE_INT64", -1, -1)]), "unexpected inference input 'ids', allowed inputs are: inp"),
        (config(input=[io("input_ids", "TYPE_STRING", -1, -1)]), "unsupported datatype TYPE_STRING for input 'input"),
        (config(output=[io("logits", "TYPE_FP64", -1, 2)]), "unsupported datatype TYPE_FP64 for output 'logits'"),
        (config(input=[io("input_ids", "TYPE_INT64", -1)]), "model expects 2 dimensions .* specifies 1 dimensions"),
        (
            config(input=[io("input_ids", "TYPE_INT64", -1, -1), io("mask", "TYPE_INT64", -1, -1)]),
            r"expects 2 inputs \(input_ids, mask\), model provides 1 \(input_ids\)",
        ),
        (config(output=[io("scores", "TYPE_FP32", -1, 2)]), "unexpected inference output 'scores'"),
        (config(output=[io("logits", "TYPE_FP32", -1, -1)]), r"shape \[-1, -1\]"),
        (batched(output=[io("logits", "TYPE_FP32", 3)]), r"shape \[8, 3\], the first of them the batch"),
        (batched(sequence_batching={"oldest": {}}), "sequence_batching is not served"),
        (config(batch_input=[{}]), "batch_input is not served"),
        (config(input=[io("input_ids", "TYPE_INT64", -1, -1, optional=True)]), "optional of input 'input_ids'"),
    ],
)
def test_refused(unfit: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        hold(unfit)


def test_reshape_io_layers_lets_inputs_differ() -> None:
    with pytest.raises(LoadError, match="the model expects 2 dimensions"):
        hold(config(input=[io("x", "TYPE_FP32", 5, 3)], output=[io("y", "TYPE_FP32", 8)]), FIXED)
    hold(config(input=[io("x", "TYPE_FP32", 5, 3)], output=[io("y", "TYPE_FP32", 8)]), FIXED, reshape=True)


@pytest.mark.parametrize(("size", "taken"), [(1, False), (2, True), (4, True), (5, False), (-1, False)])
def test_bounds_are_exclusive(size: int, taken: bool) -> None:
    assert Dim(1, 5).takes(size) is taken


def test_kinds() -> None:
    check_kind("CPU")
    with pytest.raises(LoadError, match="KIND_GPU; the OpenVINO backend supports only KIND_CPU"):
        check_kind("GPU")
