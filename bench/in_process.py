"""The same ONNX model without a server: tokenise, run, decode. What a server is measured against.

It runs what a model repository holds with the settings that are written there: the engine is the one that
config.pbtxt names, with its instances, its threads and its properties.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        instances: how many executions it computes at once.
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
        self.instances = max(1, sum(group.count for group in config.instance_group))
        self._free: queue.SimpleQueue[Run] = queue.SimpleQueue()
        for run in _ENGINES[self.engine](path, parameters, threads, self.instances):
            self._free.put(run)

    def classify(self, text: str) -> str:
        """The label of ``text``."""
        return self.classify_all([text], one_text)[0]

    def classify_all(self, texts: Sequence[str], layout: Layout) -> list[str]:
        """The labels of all texts, in their order; executions as ``layout`` has them, as many at once as instances."""
        encodings = self._tokenizer.encode_batch(list(texts))
        groups = list(layout([len(encoding.ids) for encoding in encodings]))
        executions = [[encodings[position] for position in group] for group in groups]
        if self.instances == 1 or len(groups) == 1:
            answers = list(map(self._execute, executions))
        else:
            with ThreadPoolExecutor(self.instances) as pool:
                answers = list(pool.map(self._execute, executions))
        labels = [""] * len(texts)
        for group, logits in zip(groups, answers, strict=True):
            for position, row in zip(group, logits, strict=True):
                labels[position] = str(self._labels[int(np.argmax(row))])
        return labels

    def _execute(self, encodings: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Logits, by the first instance that is free."""
        run = self._free.get()
        try:
            return run(self._padded(encodings))
        finally:
            self._free.put(run)

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


def _onnxruntime(path: Path, parameters: Mapping[str, str], threads: int, instances: int) -> list[Run]:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", threads))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", "1"))

    def instance() -> Run:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda tensors: np.asarray(session.run(["logits"], dict(tensors))[0])

    return [instance() for _ in range(instances)]


def _openvino(path: Path, parameters: Mapping[str, str], threads: int, instances: int) -> list[Run]:
    from backends.openvino.parameters import Parameters
    from backends.openvino.runtime import openvino

    config = {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}
    properties = {"INFERENCE_NUM_THREADS": threads, **Parameters.of(config).properties}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", properties)

    def instance() -> Run:
        request = compiled.create_infer_request()
        return lambda tensors: np.array(request.infer(dict(tensors))["logits"])

    return [instance() for _ in range(instances)]


_ENGINES: dict[str, Callable[[Path, Mapping[str, str], int, int], list[Run]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
