"""The same ONNX model without a server: tokenise, run, softmax, label. What a server is measured against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt


class InProcessModel:
    """One text in, its label out, on the files that the server serves.

    Thread-safe: `onnxruntime.InferenceSession.run` is.

    Args:
        repository: the model repository.
        name: the text model.
        precision: of the tensor model behind it.
        threads: as the served model's ``intra_op_thread_count``.
    """

    def __init__(self, repository: Path, name: str, precision: str, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._tokenizer = Tokenizer.from_file(str(repository / name / "1/tokenizer.json"))
        self._labels = json.loads((repository / name / "1/labels.json").read_text())
        self._session = onnxruntime.InferenceSession(
            str(repository / f"{name}_{precision}/1/model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]

    def classify(self, text: str) -> str:
        """The label of ``text``."""
        encoding = self._tokenizer.encode(text)
        arrays = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        (logits,) = self._session.run(
            ["logits"], {name: np.array([arrays[name]], dtype=np.int64) for name in self._inputs}
        )
        return str(self._labels[int(np.argmax(softmax(logits[0])))])


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, stable."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
