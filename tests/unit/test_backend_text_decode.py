"""From logits to LABEL, SCORE and PROBABILITIES."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends.bert_text.decode import ACTIVATIONS, TASKS, Decoder, sigmoid, softmax

CLASSIFICATION = TASKS["text-classification"]
LOGITS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-1e4, 1e4, width=32)
)


@given(LOGITS)
def test_softmax_is_a_distribution_of_the_same_order(logits: np.ndarray) -> None:
    values = softmax(logits)
    assert values.dtype == np.float32
    assert np.allclose(values.sum(axis=1), 1, atol=1e-5)
    assert (np.take_along_axis(values, logits.argmax(axis=1)[:, None], 1)[:, 0] == values.max(axis=1)).all()


@pytest.mark.parametrize("large", [100.0, 1e4, 3e38])
def test_softmax_and_sigmoid_do_not_overflow(large: float) -> None:
    logits = np.array([[large, 0.0, -large]], dtype=np.float32)
    labels = ["a", "b", "c"]
    assert Decoder(CLASSIFICATION, labels, "softmax").values(logits)[0] == pytest.approx([1, 0, 0])
    assert Decoder(CLASSIFICATION, labels, "sigmoid").values(logits)[0] == pytest.approx([1, 0.5, 0])


def test_not_a_number_stays_in_its_row() -> None:
    logits = np.array([[np.nan, 0.0], [1.0, 1.0]], dtype=np.float32)
    values = Decoder(CLASSIFICATION, ["a", "b"]).values(logits)
    assert np.isnan(values[0]).any()
    assert values[1].tolist() == [0.5, 0.5]


def test_softmax_is_the_textbooks() -> None:
    logits = np.array([[1.0, 2.0, 0.5]], dtype=np.float32)
    expected = np.exp([1, 2, 0.5]) / np.exp([1, 2, 0.5]).sum()
    assert softmax(logits)[0] == pytest.approx(expected, abs=1e-7)


@given(st.floats(-30, 30))
def test_sigmoid_is_the_textbooks(logit: float) -> None:
    value = sigmoid(np.array([[logit]], dtype=np.float32))[0, 0]
    assert value == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_one_label_is_a_sigmoid_several_a_softmax() -> None:
    one = Decoder(CLASSIFICATION, ["toxic"])
    two = Decoder(CLASSIFICATION, ["negative", "positive"])
    assert one.values(np.zeros((1, 1))).tolist() == [[0.5]]
    assert two.values(np.zeros((1, 2))).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(("activation", "expected"), [("none", [2.0, 0.0]), ("sigmoid", [0.8807971, 0.5])])
def test_the_config_may_name_another_activation(activation: str, expected: list[float]) -> None:
    decoder = Decoder(CLASSIFICATION, ["a", "b"], activation)
    assert decoder.values(np.array([[2.0, 0.0]]))[0] == pytest.approx(expected)
    assert activation in ACTIVATIONS


def test_outputs_have_the_shapes_and_types_of_the_contract() -> None:
    decoder = Decoder(CLASSIFICATION, ["négatif", "positif"])
    values = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    outputs = decoder.outputs(values, ("LABEL", "SCORE", "PROBABILITIES"))
    assert outputs["LABEL"].tolist() == [["négatif".encode()], [b"positif"]]
    assert outputs["SCORE"].tolist() == values.max(axis=1)[:, None].tolist()
    assert outputs["PROBABILITIES"].tolist() == values.tolist()
    assert (outputs["SCORE"].dtype, outputs["PROBABILITIES"].dtype) == (np.float32, np.float32)


def test_only_what_is_asked_for_is_built() -> None:
    assert set(Decoder(CLASSIFICATION, ["a", "b"]).outputs(np.eye(2, dtype=np.float32), {"SCORE"})) == {"SCORE"}
