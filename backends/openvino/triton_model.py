"""Wires an OpenVINO model to Triton: complete the config, load, execute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .batching import Array, check_request, feed, split
from .compiled_model import CompiledModel, model_path, read_model
from .errors import InferenceError, LoadError, RequestError
from .graph import Graph
from .model_config import check_kind, completed_max_batch_size, completed_tensors, max_batch_size, needs_completion
from .parameters import Parameters
from .runtime import openvino


class TritonPythonModel:
    """One instance of a model, in a process of its own."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in what the config leaves out, from the graph.

        Raises:
            pb_utils.TritonModelException: the config cannot be completed; says why.
        """
        config = auto_complete_model_config.as_dict()
        if needs_completion(config):
            try:
                _complete(auto_complete_model_config, config)
            except LoadError as error:
                raise _load_failure(config, f"autofill failed: {error}") from None
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the model and hold the config against its graph.

        Raises:
            pb_utils.TritonModelException: the model cannot be served as configured; says why.
        """
        config = json.loads(args["model_config"])
        try:
            check_kind(args["model_instance_kind"])
            path = model_path(Path(args["model_repository"]) / args["model_version"], config)
            self._model = CompiledModel(path, config)
        except LoadError as error:
            raise _load_failure(config, str(error)) from None
        self._batch_size = max_batch_size(config)
        self._padding = Parameters.of(config).batch_padding
        pb_utils.Logger.log_info(f"{config['name']}: {self._model}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run a dynamic batch; when that fails and it has several requests, run each alone."""
        if not self._batch_size:
            return [self._alone(request) for request in requests]
        if not self._padding:
            objection = self._wrong_batch_size(requests)
            if objection:
                error = pb_utils.TritonError(objection, pb_utils.TritonError.INTERNAL)
                return [pb_utils.InferenceResponse(output_tensors=[], error=error) for _ in requests]
        try:
            return self._run(requests)
        except (RequestError, InferenceError):
            return [self._alone(request) for request in requests]

    def _alone(self, request: Any) -> Any:
        try:
            return self._run([request])[0]
        except (RequestError, InferenceError) as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=_triton_error(error))

    def _run(self, requests: list[Any]) -> list[Any]:
        inputs = [self._read(request) for request in requests]
        outputs = self._model.run(feed(inputs, self._batch_size))
        rows = [len(next(iter(arrays.values()))) for arrays in inputs] if self._batch_size else []
        answers = split(outputs, rows, self._batch_size)
        return [
            _response(request.requested_output_names(), own) for request, own in zip(requests, answers, strict=True)
        ]

    def _read(self, request: Any) -> dict[str, Array]:
        arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        check_request(arrays, self._model.graph.inputs)
        return arrays

    def _wrong_batch_size(self, requests: list[Any]) -> str:
        rows = sum(len(request.inputs()[0].as_numpy()) for request in requests)
        if rows == self._batch_size:
            return ""
        return (
            f"expected requests with batch size '{self._batch_size}', got '{rows}'; a model that takes any batch size "
            "has max_batch_size: 0 and the batch dimension in its dims, and one of fixed dims can have "
            "'ENABLE_BATCH_PADDING' set to 'YES' at a performance cost"
        )


def _response(names: list[str], outputs: dict[str, Array]) -> Any:
    wanted = set(names) or set(outputs)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted])


def _complete(model_config: Any, config: dict[str, Any]) -> None:
    """Read the graph and add what the config lacks."""
    path = model_path(Path(pb_utils.get_model_dir()), config)
    graph = Graph.of(read_model(openvino.Core(), path))
    batch_size = completed_max_batch_size(config, graph)
    model_config.set_max_batch_size(batch_size)
    if not config.get("input"):
        for tensor in completed_tensors(graph.inputs, batch_size):
            model_config.add_input(tensor)
    if not config.get("output"):
        for tensor in completed_tensors(graph.outputs, batch_size):
            model_config.add_output(tensor)
    if graph.batches and batch_size > 1 and "sequence_batching" not in config:
        model_config.set_dynamic_batching()


def _load_failure(config: dict[str, Any], message: str) -> Exception:
    failure: Exception = pb_utils.TritonModelException(f"unable to load model '{config.get('name')}': {message}")
    return failure


def _triton_error(error: Exception) -> Any:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, RequestError) else pb_utils.TritonError.INTERNAL
    return pb_utils.TritonError(f"openvino error: {error}", code)
