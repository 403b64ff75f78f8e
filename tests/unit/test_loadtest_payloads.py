"""Requests as they travel: read back with the protocols' own means, shapes and padding, nothing sent twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from bert_triton_client import wire
from bert_triton_client.wire import RawTensor
from loadtest.cell import CellSpec, TensorNames, TextSource
from loadtest.errors import UsageError
from loadtest.payloads import Payloads, describe_lengths
from loadtest.target import Target
from loadtest.wire import Request
from tests.unit.loadtest_replies import tensor_target, text_target

PROTOCOLS = ("gRPC", "HTTP")


def cell(target: Target, **options: Any) -> CellSpec:
    return CellSpec("a", "batch-size", target.url, target.model, **options)


def read(request: Request) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """The inputs of a request, and the outputs that it asks for."""
    tensors, outputs = _read_http(request) if request.head_size else _read_grpc(request)
    return {tensor.name: wire.decode_array(tensor) for tensor in tensors}, outputs


def _read_grpc(request: Request) -> tuple[list[RawTensor], list[str]]:
    message = ModelInferRequest.FromString(request.body)
    assert (message.model_version, message.parameters["timeout"].int64_param) == ("3", 5_000_000)
    pairs = zip(message.inputs, message.raw_input_contents, strict=True)
    tensors = [RawTensor(one.name, one.datatype, tuple(one.shape), data) for one, data in pairs]
    return tensors, [one.name for one in message.outputs]


def _read_http(request: Request) -> tuple[list[RawTensor], list[str]]:
    head, offset = json.loads(request.body[: request.head_size]), request.head_size
    assert head["parameters"] == {"binary_data_output": True, "timeout": 5_000_000}
    tensors = []
    for one in head["inputs"]:
        size = one["parameters"]["binary_data_size"]
        tensors.append(RawTensor(one["name"], one["datatype"], tuple(one["shape"]), request.body[offset:][:size]))
        offset += size
    assert offset == len(request.body)
    return tensors, [one["name"] for one in head.get("outputs", ())]


def requests(target: Target, count: int = 1, **options: Any) -> list[dict[str, np.ndarray[Any, Any]]]:
    made = Payloads(cell(target, version="3", timeout_s=5, **options), target)
    return [read(made.next())[0] for _ in range(count)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("dims", "max_batch_size", "batch_size", "shape"),
    [
        ((1,), 64, 1, (1, 1)),
        ((1,), 64, 16, (16, 1)),
        ((-1,), 8, 8, (8, 1)),
        ((1, 1), 8, 2, (2, 1, 1)),
        ((-1,), 0, 5, (5,)),
        ((-1, 1), 0, 5, (5, 1)),
        ((1,), 0, 1, (1,)),
        ((1, 1), 0, 1, (1, 1)),
        ((), 0, 1, ()),
    ],
)
def test_texts_have_the_models_shape(
    protocol: str, dims: tuple[int, ...], max_batch_size: int, batch_size: int, shape: tuple[int, ...]
) -> None:
    target = text_target(protocol, dims=dims, max_batch_size=max_batch_size)
    sent = [one["TEXT"] for one in requests(target, 20, batch_size=batch_size)]
    assert {array.shape for array in sent} == {shape}
    texts = [text for array in sent for text in array.ravel().tolist()]
    assert len(set(texts)) == len(texts) == 20 * batch_size
    assert all(len(text.decode().split()) >= 5 for text in texts)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("datatype", ["INT32", "INT64"])
@pytest.mark.parametrize(
    ("dims", "max_batch_size", "leading"),
    [((-1,), 64, (4,)), ((-1, -1), 0, (4,)), ((1, -1), 64, (4, 1)), ((4, -1), 0, (4,))],
)
def test_rows_are_padded_to_the_longest(
    protocol: str, datatype: str, dims: tuple[int, ...], max_batch_size: int, leading: tuple[int, ...]
) -> None:
    target = tensor_target(protocol, datatype=datatype, dims=dims, max_batch_size=max_batch_size)
    for inputs in requests(target, 10, batch_size=4):
        ids, mask, types = inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"]
        assert ids.dtype == mask.dtype == types.dtype == np.dtype(datatype.lower())
        assert ids.shape == mask.shape == types.shape
        assert ids.shape[:-1] == leading
        assert mask.sum(-1).max() == ids.shape[-1]  # the longest has no padding
        assert not types.any()
        assert ((ids != 0) == (mask == 1)).all()
        lengths = mask.sum(-1).ravel()
        for row, length in zip(ids.reshape(4, -1), lengths, strict=True):
            assert (row[0], row[length - 1]) == (101, 102)


@pytest.mark.parametrize(("dims", "max_batch_size"), [((128,), 8), ((2, 128), 0), ((-1, 128), 0)])
def test_rows_are_padded_to_a_fixed_length(dims: tuple[int, ...], max_batch_size: int) -> None:
    target = tensor_target(dims=dims, max_batch_size=max_batch_size, roles=("input_ids", "attention_mask"))
    inputs = requests(target, batch_size=2, texts=TextSource(median_words=100, max_words=300, sigma=1))[0]
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["input_ids"].shape == (2, 128)
    inputs = requests(target, batch_size=2, names=TensorNames(sequence_length=20))[0]
    assert inputs["attention_mask"].sum(-1).tolist() == [20, 20]
    assert inputs["input_ids"].shape == (2, 128)


def test_a_row_without_any_dim_for_rows() -> None:
    inputs = requests(tensor_target(dims=(-1,), max_batch_size=0), names=TensorNames(sequence_length=9))[0]
    assert inputs["input_ids"].shape == (9,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_outputs_that_are_wanted_are_asked_for(protocol: str) -> None:
    target = text_target(protocol)
    for outputs, asked in (((), []), (("LABEL", "SCORE"), ["LABEL", "SCORE"])):
        spec = cell(target, names=TensorNames(outputs=outputs), version="3", timeout_s=5)
        assert read(Payloads(spec, target).next())[1] == asked


def test_lengths_are_those_of_all_processes_together() -> None:
    target = text_target()
    spec = cell(target, batch_size=3, version="3", timeout_s=5)
    counts: dict[int, int] = {}
    for index in range(2):
        made = Payloads(spec, target, process_index=index)
        assert made.lengths.startswith("words: log-normal")
        sent = [text for _ in range(10) for text in read(made.next())[0]["TEXT"].ravel().tolist()]
        assert sorted(len(text.split()) for text in sent) == sorted(
            length for length, count in made.length_counts.items() for _ in range(count)
        )
        assert made.lengths == describe_lengths(spec, target, made.length_counts)
        for length, count in made.length_counts.items():
            counts[length] = counts.get(length, 0) + count
    assert sum(counts.values()) == 60
    assert describe_lengths(spec, target, counts).startswith("words: mean ")


@pytest.mark.parametrize(
    ("target", "batch_size", "said"),
    [
        (text_target(), 65, "batch size 65: .* at most 64 .*max_batch_size"),
        (text_target(dims=(1,), max_batch_size=0), 2, "exactly 1 row: take batch size 1"),
        (tensor_target(dims=(4, -1), max_batch_size=0), 1, "exactly 4 rows: take batch size 4"),
        (tensor_target(dims=(-1,), max_batch_size=0), 2, "exactly 1 row"),
    ],
)
def test_more_rows_than_the_model_takes(target: Target, batch_size: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Payloads(cell(target, batch_size=batch_size), target)


def test_an_empty_file_is_refused_before_the_load_begins(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("")
    for target in (text_target(), tensor_target()):
        with pytest.raises(UsageError, match=r"reviews\.csv is empty"):
            Payloads(cell(target, texts=TextSource(path=str(path))), target)
