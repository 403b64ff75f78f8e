"""Wires a text model to Triton: load, execute, unload."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .batch import INTERNAL, BatchRunner, Failure, TextRequest
from .decode import TEXT, Decoder
from .metrics import Metrics
from .settings import Settings
from .tensor_model import TensorModel, triton_error
from .tokenise import Tokeniser
from .version_folder import check_tensors, read_labels, tensors, tokenizer_path


class TritonPythonModel:
    """One instance of a text model, in a process of its own."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Add the inputs and outputs the task has, or refuse a config that cannot be served.

        Without this Triton would call a model READY that has no inputs.
        """
        config = auto_complete_model_config.as_dict()
        settings = _explained(config, Settings.from_model_config, config)
        labels = _explained(config, read_labels, Path(pb_utils.get_model_dir()))
        inputs, outputs = tensors(settings.task, len(labels))
        for tensor in inputs:
            auto_complete_model_config.add_input(tensor)
        for tensor in outputs:
            auto_complete_model_config.add_output(tensor)
        auto_complete_model_config.set_dynamic_batching()
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's files; calls no model (the tensor model may load after this one).

        Raises:
            pb_utils.TritonModelException: the model cannot be served; says why.
        """
        config = json.loads(args["model_config"])
        _explained(config, self._load, config, args)

    def _load(self, config: dict[str, Any], args: dict[str, str]) -> None:
        self._settings = settings = Settings.from_model_config(config)
        folder = Path(args["model_repository"]) / args["model_version"]
        labels = read_labels(folder)
        check_tensors(config, settings.task, len(labels))
        tokeniser = Tokeniser(
            tokenizer_path(folder), settings.max_length, truncate=settings.over_long_text == "truncate"
        )
        self._decoder = Decoder(settings.task, labels, settings.activation)
        self._metrics = Metrics(pb_utils, {"model": args["model_name"], "version": args["model_version"]})
        # Version N of the text model calls version N of the tensor model: an answer never mixes two exports.
        tensor_model = TensorModel(settings.tensor_model, int(args["model_version"]), settings.tensor_output)
        self._runner = BatchRunner(settings, tokeniser, self._decoder, tensor_model, self._metrics.count)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a dynamic batch, one response a request, in order."""
        received_s = time.monotonic()
        batch = [_text_request(request, received_s) for request in requests]
        self._runner.run(batch)
        self._metrics.set_cache_entries(len(self._runner.cache))
        return [self._response(request, result) for request, result in zip(requests, batch, strict=True)]

    def finalize(self) -> None:
        """End the threads, take this instance's cache out of the metrics."""
        self._runner.close()
        self._metrics.close()

    def _response(self, request: Any, result: TextRequest) -> Any:
        if result.values is None:
            failure = result.failure or Failure(INTERNAL, "the request was not answered")
            return pb_utils.InferenceResponse(output_tensors=[], error=triton_error(failure))
        names = request.requested_output_names() or self._settings.task.output_names
        outputs = self._decoder.outputs(result.values, names)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _text_request(request: Any, received_s: float) -> TextRequest:
    """The texts and the deadline of a Triton request.

    Triton's timeout counts from its arrival in the queue, which a backend cannot see; here it counts
    from the start of the batch. What waited too long before that, only a queue policy refuses (none by default).
    """
    texts = pb_utils.get_input_tensor_by_name(request, TEXT).as_numpy().ravel().tolist()
    timeout_us = request.timeout()
    return TextRequest(
        texts=texts,
        deadline_s=received_s + timeout_us / 1e6 if timeout_us else None,
        is_cancelled=request.is_cancelled,
    )


def _explained(config: dict[str, Any], step: Any, *arguments: Any) -> Any:
    """Run a loading step; what it objects to becomes one line for the server's log."""
    try:
        return step(*arguments)
    except (ValueError, OSError) as error:
        raise pb_utils.TritonModelException(f"model {config.get('name')} cannot be loaded: {error}") from None
