"""The same ONNX model without a server: tokenise, run, decode. What a server is measured against.

It runs what a model repository holds with the settings that are written there: the engine is the one that
config.pbtxt names, with its threads and its properties.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.models import newest_version, read_config

Tensors = Mapping[str, npt.NDArray[np.int64]]
Run = Callable[[Tensors], npt.NDArray[np.float32]]
# How many texts go into one execution: lists of positions, from the token count of every text.
Layout = Callable[[Sequence[int]], Iterator[list[int]]]


class InProcessModel:
    """Texts in, labels out, on the files that the server serves. Thread-safe.

    Args:
        repository: the model repository.
        name: the text model.
        precision: of the tensor model behind it; None = the one that the text model calls.
        threads: of an execution, where the config does not say.

    Attributes:
        tensor_model: the name of the tensor model.
        engine: what runs it.
    """

    def __init__(self, repository: Path, name: str, precision: str | None, threads: int) -> None:
        from tokenizers import Tokenizer

        text_config = read_config(repository, name)
        version = newest_version(repository, name)
        self.tensor_model = f"{name}_{precision}" if precision else text_config.parameters["tensor_model"].string_value
        self._tokenizer = Tokenizer.from_file(str(version / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(int(text_config.parameters["max_length"].string_value))
        self._pad = int(text_config.parameters["pad_token_id"].string_value)
        self._labels = json.loads((version / "labels.json").read_text())
        config = read_config(repository, self.tensor_model)
        self.engine = str(config.backend)
        self._inputs = [tensor.name for tensor in config.input]
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        path = newest_version(repository, self.tensor_model) / config.default_model_filename
        self._run = _ENGINES[self.engine](path, parameters, threads)

    def classify(self, text: str) -> str:
        """The label of ``text``."""
        return self.classify_all([text], one_text)[0]

    def classify_all(self, texts: Sequence[str], layout: Layout) -> list[str]:
        """The labels of all texts, in their order; executions as ``layout`` has them, one after another."""
        encodings = self._tokenizer.encode_batch(list(texts))
        labels = [""] * len(texts)
        for group in layout([len(encoding.ids) for encoding in encodings]):
            logits = self._run(self._padded([encodings[position] for position in group]))
            for position, row in zip(group, logits, strict=True):
                labels[position] = str(self._labels[int(np.argmax(row))])
        return labels

    def _padded(self, encodings: Sequence[Any]) -> Tensors:
        """Tensors int64[batch_size, longest]; where the graph packs, it drops the padding itself."""
        longest = max(len(encoding.ids) for encoding in encodings)
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        arrays = {}
        for name in self._inputs:
            array = np.full((len(encodings), longest), self._pad if name == "input_ids" else 0, dtype=np.int64)
            for row, encoding in zip(array, encodings, strict=True):
                values = getattr(encoding, columns[name])
                row[: len(values)] = values
            arrays[name] = array
        return arrays


def one_text(tokens: Sequence[int]) -> Iterator[list[int]]:
    """Every text by itself."""
    for position in range(len(tokens)):
        yield [position]


def arrival_order(tokens: Sequence[int], size: int = 16) -> Iterator[list[int]]:
    """``size`` texts each, as they come."""
    for start in range(0, len(tokens), size):
        yield list(range(start, min(start + size, len(tokens))))


def sorted_budget(tokens: Sequence[int], budget: int = 512) -> Iterator[list[int]]:
    """Sorted by length, as many texts as ``budget`` real tokens allow; a longer text by itself."""
    group: list[int] = []
    total = 0
    for position in sorted(range(len(tokens)), key=lambda position: tokens[position]):
        if group and total + tokens[position] > budget:
            yield group
            group, total = [], 0
        group.append(position)
        total += tokens[position]
    if group:
        yield group


def _onnxruntime(path: Path, parameters: Mapping[str, str], threads: int) -> Run:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", threads))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", "1"))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(tensors: Tensors) -> npt.NDArray[np.float32]:
        (logits,) = session.run(["logits"], dict(tensors))
        return np.asarray(logits)

    return run


def _openvino(path: Path, parameters: Mapping[str, str], threads: int) -> Run:
    from backends.openvino.parameters import Parameters
    from backends.openvino.runtime import openvino

    config = {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}
    properties = {"INFERENCE_NUM_THREADS": threads, **Parameters.of(config).properties}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", properties)
    of_thread = threading.local()

    def run(tensors: Tensors) -> npt.NDArray[np.float32]:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        return np.array(of_thread.request.infer(dict(tensors))["logits"])

    return run


_ENGINES: dict[str, Callable[[Path, Mapping[str, str], int], Run]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
