"""The model as a user of a server hands it over: a checkpoint with PyTorch, or its ONNX file with ONNX Runtime.

Runs in the rivals' own environments and imports nothing of this project.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Classifier:
    """Texts to labels, padded to the longest of them.

    Args:
        folder: Hugging Face checkpoint, or a folder with ``config.json``, a tokenizer and one ``*.onnx``.
        precision: ``fp32`` or ``bf16`` of a checkpoint; ``onnx``: whatever the ONNX file computes in.
        threads: that compute one batch; 0 leaves it to the library.
        max_length: tokens to which texts are truncated.
    """

    def __init__(self, folder: str, precision: str, threads: int, max_length: int) -> None:
        from transformers import AutoTokenizer

        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self._labels = {int(index): label for index, label in config["id2label"].items()}
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._max_length = max_length
        load = self._load_onnx if precision == "onnx" else self._load_torch
        self._logits = load(folder, precision, threads)

    def classify(self, texts: Sequence[str]) -> list[str]:
        """One label a text, in order."""
        return [self._labels[int(row.argmax())] for row in self._logits(list(texts))]

    def _load_torch(self, folder: str, precision: str, threads: int) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        if threads:
            torch.set_num_threads(threads)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

        def logits(texts: list[str]) -> Any:
            with torch.inference_mode():
                return model(**self._tokenize(texts, "pt")).logits

        return logits

    def _load_onnx(self, folder: str, _: str, threads: int) -> Any:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        (file,) = Path(folder).glob("*.onnx")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        inputs = [tensor.name for tensor in session.get_inputs()]

        def logits(texts: list[str]) -> Any:
            tokens = self._tokenize(texts, "np")
            return session.run(["logits"], {name: tokens[name].astype("int64", copy=False) for name in inputs})[0]

        return logits

    def _tokenize(self, texts: list[str], tensors: str) -> Any:
        return self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_length, return_tensors=tensors
        )


def from_environment() -> Classifier:
    """From ``CLASSIFIER_FOLDER``, ``CLASSIFIER_PRECISION``, ``CLASSIFIER_THREADS`` and ``CLASSIFIER_MAX_LENGTH``."""
    return Classifier(
        os.environ["CLASSIFIER_FOLDER"],
        os.environ["CLASSIFIER_PRECISION"],
        int(os.environ["CLASSIFIER_THREADS"]),
        int(os.environ["CLASSIFIER_MAX_LENGTH"]),
    )
