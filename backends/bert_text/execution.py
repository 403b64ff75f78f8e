"""One call of the tensor model: from tokens to an answer, or the reason why not, for each text of an execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .decode import Decoder
from .settings import Settings
from .tensors import Int64Array, padded
from .text_request import INTERNAL, Answer, Failure
from .tokenise import Tokens

# The tensor model: (inputs, timeout in microseconds or 0) -> its output or why there is none.
TensorModel = Callable[[dict[str, Int64Array], int], "npt.NDArray[Any] | Failure"]


class Executor:
    """Computes executions.

    Args:
        settings: of the text model.
        decoder: from logits to values.
        tensor_model: is called once an execution, from several threads.
    """

    def __init__(self, settings: Settings, decoder: Decoder, tensor_model: TensorModel) -> None:
        self._settings = settings
        self._decoder = decoder
        self._tensor_model = tensor_model

    def inputs(self, rows: Sequence[Tokens]) -> dict[str, Int64Array]:
        """int64[batch_size, sequence_length] by name."""
        settings = self._settings
        return padded([row.ids for row in rows], settings.tensor_inputs, settings.pad_token_id)

    def compute(self, rows: Sequence[Tokens], timeout_us: int = 0) -> list[Answer | Failure]:
        """One outcome for each of ``rows``.

        Args:
            rows: the tokens of the texts.
            timeout_us: most microseconds to wait in the tensor model's queue; 0 = no limit.
        """
        output = self._tensor_model(self.inputs(rows), timeout_us)
        if isinstance(output, Failure):
            return [output] * len(rows)
        model = self._settings.tensor_model
        if output.ndim != 2 or output.shape[0] != len(rows):
            what = f"{model} answered {self._settings.tensor_output} of shape {list(output.shape)} to {len(rows)} rows"
            return [Failure(INTERNAL, what)] * len(rows)
        values = self._decoder.values(output)
        finite = np.isfinite(values).all(axis=1)
        not_a_number = Failure(INTERNAL, f"{model} answered not a number", of_text=True)
        return [
            Answer(value.copy(), row.truncated) if good else not_a_number
            for row, value, good in zip(rows, values, finite.tolist(), strict=True)
        ]
