"""Every way in which a reply can be wrong is noticed and named, over both protocols; right ones pass."""

from __future__ import annotations

import functools
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_triton_client import wire
from bert_triton_client.answers import TensorInfo
from bert_triton_client.wire import RawTensor
from loadtest.cell import CellSpec
from loadtest.payloads import Payloads
from loadtest.target import Target
from loadtest.wire import Reply
from tests.unit.loadtest_replies import reply, tensor_target, text_target

PROTOCOLS = ("gRPC", "HTTP")


@functools.cache
def payloads(target: Target, batch_size: int = 1) -> Payloads:
    return Payloads(CellSpec("a", "batch-size", target.url, target.model, batch_size=batch_size), target)


def floats(name: str, shape: tuple[int, ...], *values: float) -> RawTensor:
    return RawTensor(name, "FP32", shape, struct.pack(f"<{len(values)}f", *values))


def label(*labels: bytes) -> RawTensor:
    return RawTensor("LABEL", "BYTES", (len(labels), 1), wire.encode_bytes(labels))


def answered(**changes: RawTensor | None) -> list[RawTensor]:
    """The right answer to two texts, with tensors put in place of others, or taken out."""
    tensors: dict[str, RawTensor | None] = {
        "LABEL": label(b"positive", b"negative"),
        "SCORE": floats("SCORE", (2, 1), 0.9, 0.7),
        "PROBABILITIES": floats("PROBABILITIES", (2, 2), 0.1, 0.9, 0.7, 0.3),
    }
    return [tensor for tensor in (tensors | changes).values() if tensor is not None]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_right_replies_pass(protocol: str) -> None:
    checked = payloads(text_target(protocol), 2)
    assert checked.check(reply(protocol, answered())) is None
    assert checked.check(reply(protocol, answered(SCORE=floats("SCORE", (2, 1), 0.0, 1.0)))) is None
    extra = floats("extra", (1,), float("nan"))  # nobody promised anything of it
    assert checked.check(reply(protocol, [*answered(), extra])) is None


NAN, INF = float("nan"), float("inf")

WRONG = [
    (answered(LABEL=None), "'LABEL' is missing"),
    (answered(PROBABILITIES=None), "'PROBABILITIES' is missing"),
    (answered(SCORE=RawTensor("SCORE", "FP64", (2, 1), bytes(16))), "'SCORE' is FP64, expected FP32"),
    (answered(LABEL=label(b"positive")), r"'LABEL' has shape \[1, 1\] for 2 rows, expected \[2, 1\]"),
    (answered(SCORE=floats("SCORE", (2,), 0.9, 0.7)), r"'SCORE' has shape \[2\]"),
    (answered(PROBABILITIES=floats("PROBABILITIES", (2, 3), *[1 / 3] * 6)), r"has shape \[2, 3\].*expected \[2, 2\]"),
    (answered(PROBABILITIES=floats("PROBABILITIES", (2, 2), 0.1, 0.9)), "has 8 bytes for shape .*, expected 16"),
    (answered(LABEL=RawTensor("LABEL", "BYTES", (2, 1), b"\x09\0\0\0positive")), "no 2 strings"),
    (answered(LABEL=RawTensor("LABEL", "BYTES", (2, 1), wire.encode_bytes([b"a"]))), "no 2 strings"),
    (answered(LABEL=label(b"positive", b"")), "'LABEL' is an empty string in row 1"),
    (answered(SCORE=floats("SCORE", (2, 1), 0.9, NAN)), "'SCORE' holds nan at position 1"),
    (answered(PROBABILITIES=floats("PROBABILITIES", (2, 2), 0, 1, -INF, INF)), "'PROBABILITIES' holds -inf at pos"),
    (answered(SCORE=floats("SCORE", (2, 1), 0.9, 1.25)), "'SCORE' is 1.25, expected 0 to 1"),
    (answered(SCORE=floats("SCORE", (2, 1), -0.5, 0.5)), "'SCORE' is -0.5, expected 0 to 1"),
    (answered(PROBABILITIES=floats("PROBABILITIES", (2, 2), 0.1, 0.9, 0.7, 0.7)), "of row 1 sums to 1.4, expected 1"),
    (answered(PROBABILITIES=floats("PROBABILITIES", (2, 2), 1.5, -0.5, 0.7, 0.3)), "holds -0.5, expected 0 or more"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("tensors", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_wrong_replies_are_named(protocol: str, tensors: list[RawTensor], said: str) -> None:
    problem = payloads(text_target(protocol), 2).check(reply(protocol, tensors))
    assert problem is not None
    assert re.search(said, problem), problem


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=st.data())
def test_a_flipped_float_or_a_cut_is_noticed(protocol: str, data: st.DataObject) -> None:
    """Any score outside [0, 1], any probability off by more than the tolerance, any number of bytes too few."""
    checked = payloads(text_target(protocol), 2)
    wrong = data.draw(st.floats(width=32).filter(lambda x: not -0.0 <= x <= 1))
    place = data.draw(st.integers(0, 1))
    scores = [0.9, 0.7]
    scores[place] = wrong
    assert checked.check(reply(protocol, answered(SCORE=floats("SCORE", (2, 1), *scores))))
    values = [0.1, 0.9, 0.7, 0.3]
    place = data.draw(st.integers(0, 3))
    values[place] += data.draw(st.floats(0.0015, 100)) * data.draw(st.sampled_from([1, -1]))
    assert checked.check(reply(protocol, answered(PROBABILITIES=floats("PROBABILITIES", (2, 2), *values))))
    right = reply(protocol, answered())
    cut = Reply(right.body[: -data.draw(st.integers(1, len(right.body)))], right.head_size)
    assert checked.check(cut) is not None
    assert not checked.same(right, cut)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(body=st.binary(max_size=60), head_size=st.none() | st.integers(0, 80))
def test_what_is_no_reply_is_wrong_and_never_breaks_the_loop(protocol: str, body: bytes, head_size: int | None) -> None:
    assert isinstance(payloads(text_target(protocol)).check(Reply(body, head_size)), str)


def test_another_version_is_not_what_the_row_says() -> None:
    checked = payloads(text_target(), 2)
    assert checked.check(reply("gRPC", answered(), version="2")) == "version 2 answered, expected version 1"
    assert checked.check(reply("gRPC", answered(), version="")) is None


# --- Other models ---


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")])
@pytest.mark.parametrize("width", [2, 768])
def test_logits_of_any_float_are_finite(datatype: str, dtype: str, width: int) -> None:
    target = tensor_target(outputs=(TensorInfo("out", datatype, (-1,)),))
    checked = payloads(target, 3)
    values = np.linspace(-9, 9, 3 * width).astype(dtype)

    def problem() -> str | None:
        return checked.check(reply("gRPC", [RawTensor("out", datatype, (3, width), values.tobytes())]))

    assert problem() is None
    values[-1] = np.inf
    assert problem() == f"output 'out' holds inf at position {3 * width - 1}, expected finite numbers"


def test_bf16_and_integers_are_checked_too() -> None:
    outputs = (TensorInfo("half", "BF16", (2,)), TensorInfo("count", "INT32", (1,)))
    checked = payloads(tensor_target(outputs=outputs))
    count = RawTensor("count", "INT32", (1, 1), struct.pack("<i", -7))
    right = [RawTensor("half", "BF16", (1, 2), struct.pack("<2H", 0x3F80, 0xC000)), count]  # 1 and -2
    assert checked.check(reply("gRPC", right)) is None
    infinite = [RawTensor("half", "BF16", (1, 2), struct.pack("<2H", 0x3F80, 0x7F80)), count]
    assert checked.check(reply("gRPC", infinite)) == "output 'half' holds inf at position 1, expected finite numbers"
    short = [right[0], RawTensor("count", "INT32", (1, 1), b"\0")]
    assert "has 1 bytes" in str(checked.check(reply("gRPC", short)))


@pytest.mark.parametrize(
    ("dims", "shape", "is_right"),
    [
        ((-1, 2), (3, 2), True),
        ((-1, 2), (4, 2), False),
        ((-1, 2), (3, 3), False),
        ((-1,), (3,), True),
        ((-1,), (6,), True),  # two values for each row, flat
        ((-1,), (4,), False),
        ((-1,), (0,), False),
        ((3, 2), (3, 2), True),
        ((3, 2), (1, 2), False),
    ],
)
def test_without_a_batch_dimension_the_first_dim_counts_rows(
    dims: tuple[int, ...], shape: tuple[int, ...], is_right: bool
) -> None:
    target = tensor_target(dims=(-1, -1), max_batch_size=0, outputs=(TensorInfo("out", "FP32", dims),))
    values = floats("out", shape, *[0.5] * int(np.prod(shape)))
    assert (payloads(target, 3).check(reply("gRPC", [values])) is None) == is_right


def test_a_tensor_model_may_say_anything_finite() -> None:
    outputs = (TensorInfo("SCORE", "FP32", (1,)), TensorInfo("PROBABILITIES", "FP32", (2,)))
    checked = payloads(tensor_target(outputs=outputs))
    tensors = [floats("SCORE", (1, 1), -3.5), floats("PROBABILITIES", (1, 2), 8, 9)]
    assert checked.check(reply("gRPC", tensors)) is None


# --- The same answer ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_are_the_same_within_a_hundredth(protocol: str) -> None:
    compared = payloads(text_target(protocol), 2)
    first = reply(protocol, answered())

    def same(**changes: RawTensor | None) -> bool:
        return compared.same(first, reply(protocol, answered(**changes)))

    assert same()
    assert same(SCORE=floats("SCORE", (2, 1), 0.909, 0.695))
    assert not same(SCORE=floats("SCORE", (2, 1), 0.92, 0.7))
    assert not same(SCORE=floats("SCORE", (2, 1), NAN, 0.7))
    assert not same(SCORE=None)
    assert not same(LABEL=label(b"positive", b"positive"))
    assert not same(LABEL=label(b"positive", b"negativ"))
    assert not same(PROBABILITIES=floats("PROBABILITIES", (2, 1), 0.1, 0.9))


def test_integers_are_the_same_only_if_equal() -> None:
    compared = payloads(tensor_target(outputs=(TensorInfo("out", "INT64", (1,)),)))
    one, other = (reply("gRPC", [RawTensor("out", "INT64", (1, 1), struct.pack("<q", n))]) for n in (1, 2))
    assert compared.same(one, one)
    assert not compared.same(one, other)
