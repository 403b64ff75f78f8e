"""Tasks: from the tensor model's output to the text model's outputs.

A task is a row of `TASKS`, an activation a row of `ACTIVATIONS`. The arithmetic is numpy in float32
and follows Hugging Face's ``text-classification`` pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TEXT = "TEXT"
LABEL = "LABEL"
SCORE = "SCORE"
PROBABILITIES = "PROBABILITIES"

# Stands for the number of labels in the dims of a `Tensor`.
NUM_LABELS = -1

FloatArray = npt.NDArray[np.float32]


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis of float32[batch_size, num_labels], without overflow.

    The largest logit is subtracted first, so that no exponent is positive.
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Sigmoid of float32[batch_size, num_labels], without overflow.

    tanh(x/2)/2 + 1/2 equals 1/(1+exp(-x)) and has no exponent that can overflow.
    """
    return np.asarray(np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5), dtype=np.float32)


def identity(logits: FloatArray) -> FloatArray:
    """The logits themselves (regression)."""
    return logits


ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "none": identity,
    "sigmoid": sigmoid,
    "softmax": softmax,
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a text model, in config.pbtxt's words; dims leave out the batch."""

    name: str
    data_type: str
    dims: tuple[int, ...]


def classify(values: FloatArray, labels: Sequence[bytes], names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The outputs ``names`` of text-classification.

    Args:
        values: float32[batch_size, num_labels], activated.
        labels: the label names, UTF-8, index = id.
        names: which outputs to build.

    Returns:
        LABEL object[batch_size, 1] of bytes, SCORE float32[batch_size, 1], PROBABILITIES as ``values``.
    """
    outputs: dict[str, npt.NDArray[Any]] = {}
    best = values.argmax(axis=1)
    if LABEL in names:
        outputs[LABEL] = np.array([labels[index] for index in best.tolist()], dtype=np.object_).reshape(-1, 1)
    if SCORE in names:
        outputs[SCORE] = np.take_along_axis(values, best[:, None], axis=1)
    if PROBABILITIES in names:
        outputs[PROBABILITIES] = values
    return outputs


@dataclass(frozen=True)
class Task:
    """One task: a row of `TASKS`.

    Attributes:
        name: Hugging Face's task name.
        inputs: tensors a text model of this task takes.
        outputs: tensors it answers with; `NUM_LABELS` in their dims is the number of labels.
        answer: from activated values, labels and output names to the outputs.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    answer: Callable[[FloatArray, Sequence[bytes], Sequence[str]], dict[str, npt.NDArray[Any]]]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all outputs."""
        return tuple(output.name for output in self.outputs)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="text-classification",
            inputs=(Tensor(TEXT, "TYPE_STRING", (1,)),),
            outputs=(
                Tensor(LABEL, "TYPE_STRING", (1,)),
                Tensor(SCORE, "TYPE_FP32", (1,)),
                Tensor(PROBABILITIES, "TYPE_FP32", (NUM_LABELS,)),
            ),
            answer=classify,
        ),
    )
}


class Decoder:
    """Decodes for one model: its task, its labels and its activation."""

    def __init__(self, task: Task, labels: Sequence[str], activation: str | None = None) -> None:
        self._task = task
        self._labels = [label.encode() for label in labels]
        self.num_labels = len(labels)
        # Hugging Face's pipeline: one label means a sigmoid, several a softmax, unless the checkpoint's
        # problem_type says otherwise; export writes that into the config as `activation`.
        self._activate = ACTIVATIONS[activation or ("sigmoid" if len(labels) == 1 else "softmax")]

    def values(self, logits: npt.NDArray[Any]) -> FloatArray:
        """Activated float32[batch_size, num_labels] of the tensor model's output.

        A row with a logit that is not a number gives a row that is not a number.
        """
        # A difference of two huge logits may overflow to -inf, whose exponential is the right 0.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._activate(np.asarray(logits, dtype=np.float32))

    def outputs(self, values: FloatArray, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The requested outputs for a request's values."""
        return self._task.answer(values, self._labels, names)
