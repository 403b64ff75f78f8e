"""Tensors as bytes and back, and what is refused on the way."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from bert_triton_client import Classification, InvalidTensorError, UnexpectedAnswerError, wire


def raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> wire.RawTensor:
    return wire.RawTensor(name, datatype, shape, data)


@given(st.lists(st.binary(max_size=20)))
def test_bytes_are_what_tritonclient_writes_and_reads(elements: list[bytes]) -> None:
    encoded = wire.encode_bytes(elements)
    if elements:
        assert encoded == serialize_byte_tensor(np.array(elements, dtype=object)).item()
        assert deserialize_bytes_tensor(encoded).tolist() == elements
    assert wire.decode_bytes(raw("x", "BYTES", (len(elements),), encoded)) == elements


@pytest.mark.parametrize("data", [b"\x05\x00\x00\x00ab", b"\x01\x00", b"", b"\x01\x00\x00\x00ab"])
def test_broken_bytes_are_an_unexpected_answer(data: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="do not hold 1 strings"):
        wire.decode_bytes(raw("x", "BYTES", (1,), data))


def answer(labels: list[bytes], scores: list[float], probabilities: list[float]) -> wire.InferAnswer:
    count = len(labels)
    tensors = (
        raw("LABEL", "BYTES", (count, 1), wire.encode_bytes(labels)),
        raw("SCORE", "FP32", (len(scores), 1), struct.pack(f"<{len(scores)}f", *scores)),
        raw("PROBABILITIES", "FP32", (count, 2), struct.pack(f"<{len(probabilities)}f", *probabilities)),
    )
    return wire.InferAnswer("sentiment", "1", {tensor.name: tensor for tensor in tensors})


def test_classifications() -> None:
    found = wire.decode_classifications(answer([b"NO", "JÄ".encode()], [0.75, 0.5], [0.75, 0.25, 0.5, 0.5]), 2)
    assert found == [Classification("NO", 0.75, (0.75, 0.25)), Classification("JÄ", 0.5, (0.5, 0.5))]


@pytest.mark.parametrize(
    ("labels", "scores", "probabilities"),
    [([b"A"], [1.0], [1.0]), ([b"A", b"B"], [1.0], [1.0, 0.0]), ([b"A", b"B"], [1.0, 1.0], [1.0, 0.0, 1.0])],
)
def test_answers_of_another_size_are_refused(
    labels: list[bytes], scores: list[float], probabilities: list[float]
) -> None:
    with pytest.raises(UnexpectedAnswerError, match="answered 2 texts with"):
        wire.decode_classifications(answer(labels, scores, probabilities), 2)


def test_a_missing_output_and_a_wrong_type_are_named() -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"without LABEL; it has no outputs"):
        wire.decode_classifications(wire.InferAnswer("m", "1", {}), 1)
    wrong = answer([b"A"], [1.0], [1.0, 0.0])
    wrong.outputs["SCORE"] = raw("SCORE", "FP64", (1, 1), bytes(8))
    with pytest.raises(UnexpectedAnswerError, match="'SCORE' is FP64, expected FP32"):
        wire.decode_classifications(wrong, 1)
    with pytest.raises(UnexpectedAnswerError, match="not UTF-8"):
        wire.decode_classifications(answer([b"\xff"], [1.0], [1.0, 0.0]), 1)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i8", ">f4"])
def test_arrays_travel_and_come_back(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).T.astype(dtype)  # not contiguous
    back = wire.decode_array(wire.encode_array("x", array))
    assert back.shape == (3, 2)
    np.testing.assert_array_equal(back, array)


def test_strings_travel_and_come_back() -> None:
    array = np.array([["a", "ü"], [b"\xff", ""]], dtype=object)
    assert wire.decode_array(wire.encode_array("x", array)).tolist() == [[b"a", "ü".encode()], [b"\xff", b""]]
    assert wire.encode_array("x", np.array(["abc"])).datatype == "BYTES"


@pytest.mark.parametrize(
    ("array", "says"),
    [
        ([1, 2], "is a list, expected a numpy array"),
        (np.array([1 + 2j]), "has dtype complex128"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "has dtype datetime64"),
        (np.array([1, None], dtype=object), "holds a int"),
        (np.array(["\ud800"], dtype=object), "UTF-8"),
    ],
)
def test_what_triton_cannot_hold_is_refused_before_it_is_sent(array: object, says: str) -> None:
    with pytest.raises(InvalidTensorError, match=says):
        wire.encode_array("x", array)  # type: ignore[arg-type]


def test_tensors_that_do_not_fit_their_shape() -> None:
    with pytest.raises(UnexpectedAnswerError, match="7 bytes are no FP32"):
        wire.decode_array(raw("x", "FP32", (2,), bytes(7)))
    with pytest.raises(UnexpectedAnswerError, match="BF16, which numpy cannot hold"):
        wire.decode_array(raw("x", "BF16", (2,), bytes(4)))


def test_an_http_body_holds_json_then_bytes() -> None:
    request = wire.encode_texts("m", "", [b"ab", b"c"])
    body, length = wire.http_body(request, 5)
    head = json.loads(body[:length])
    assert head["inputs"] == [
        {"name": "TEXT", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 11}}
    ]
    assert head["parameters"] == {"binary_data_output": True, "timeout": 5}
    assert body[length:] == wire.encode_bytes([b"ab", b"c"])


def test_an_http_answer_is_read_back() -> None:
    head = json.dumps(
        {
            "model_name": "m",
            "model_version": "3",
            "outputs": [
                {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
                {"name": "b", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}},
            ],
        }
    ).encode()
    found = wire.parse_http_body(head + b"\x01\x02\x03", len(head))
    assert found == wire.InferAnswer(
        "m", "3", {"a": raw("a", "INT8", (2,), b"\x01\x02"), "b": raw("b", "INT8", (1,), b"\x03")}
    )
    with pytest.raises(UnexpectedAnswerError, match="cut off"):
        wire.parse_http_body(head + b"\x01", len(head))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"outputs": [{"name": "a"}]}', b"\xff"])
def test_other_http_bodies_are_unexpected(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        wire.parse_http_body(body, None)


def test_http_error_messages() -> None:
    assert wire.http_error_message(b'{"error": "no"}') == "no"
    assert wire.http_error_message(b"<html>502</html>") == "b'<html>502</html>'"
    assert wire.http_error_message(b"") == ""
