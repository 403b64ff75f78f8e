"""Wires an ONNX model to Triton: complete the config, load, execute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .batching import Array, decode_strings, feed, outputs_for_triton, split
from .errors import LoadError, RequestError
from .graph import STRING, Graph
from .model_config import check, completed_max_batch_size, completed_tensors, needs_completion
from .run import run_of
from .session import create_session, model_path, run_options


class TritonPythonModel:
    """One instance of an ONNX model, in a process of its own."""

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
            except (LoadError, ValueError) as error:
                raise _load_failure(config, f"autofill failed: {error}") from None
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Create the session and hold the config against its graph.

        Raises:
            pb_utils.TritonModelException: the model cannot be served as configured; says why.
        """
        config = json.loads(args["model_config"])
        try:
            path = model_path(Path(args["model_repository"]) / args["model_version"], config)
            session = create_session(path, config, args["model_instance_kind"], int(args["model_instance_device_id"]))
            graph = Graph.of(session)
            check(config, graph)
            self._run_graph = run_of(session, graph, run_options(config))
        except (LoadError, ValueError) as error:
            raise _load_failure(config, str(error)) from None
        self._batches = int(config.get("max_batch_size", 0)) > 0
        self._inputs = {**graph.inputs, **graph.optional_inputs}
        self._outputs = {tensor["name"]: graph.outputs[tensor["name"]] for tensor in config["output"]}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run a dynamic batch; when that fails and it has several requests, run each alone."""
        try:
            return self._run(requests)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's exceptions have no common root
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(output_tensors=[], error=_triton_error(error))]
        return [response for request in requests for response in self.execute([request])]

    def _run(self, requests: list[Any]) -> list[Any]:
        inputs = [self._read(request) for request in requests]
        wanted = [set(request.requested_output_names()) or set(self._outputs) for request in requests]
        names = [name for name in self._outputs if any(name in one for one in wanted)]
        values = self._run_graph(names, feed(inputs, self._inputs))
        outputs = outputs_for_triton(values, names, self._outputs)
        rows = [len(next(iter(arrays.values()))) if self._batches else 1 for arrays in inputs]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in own.items() if name in one])
            for own, one in zip(split(outputs, rows), wanted, strict=True)
        ]

    def _read(self, request: Any) -> dict[str, Array]:
        arrays = {}
        for tensor in request.inputs():
            name, array = tensor.name(), tensor.as_numpy()
            arrays[name] = decode_strings(array, name) if self._inputs[name].data_type == STRING else array
        return arrays


def _complete(model_config: Any, config: dict[str, Any]) -> None:
    """Load the graph on the CPU and add what the config lacks."""
    path = model_path(Path(pb_utils.get_model_dir()), config)
    graph = Graph.of(create_session(path, {**config, "optimization": {}}, "CPU", 0))
    max_batch_size = completed_max_batch_size(config, graph)
    model_config.set_max_batch_size(max_batch_size)
    if not config.get("input"):
        for tensor in completed_tensors(graph.inputs, max_batch_size):
            model_config.add_input(tensor)
    if not config.get("output"):
        for tensor in completed_tensors(graph.outputs, max_batch_size):
            model_config.add_output(tensor)
    if max_batch_size > 1 and "sequence_batching" not in config:
        model_config.set_dynamic_batching()


def _load_failure(config: dict[str, Any], message: str) -> Exception:
    failure: Exception = pb_utils.TritonModelException(f"unable to load model '{config.get('name')}': {message}")
    return failure


def _triton_error(error: Exception) -> Any:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, RequestError) else pb_utils.TritonError.INTERNAL
    return pb_utils.TritonError(f"onnx runtime error: {error}", code)
