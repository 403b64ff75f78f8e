"""From a model's config and file to a compiled model and its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .batching import Array
from .errors import InferenceError, LoadError, RequestError, reason
from .graph import ELEMENT_TYPES, Graph
from .model_config import check, check_inputs, check_outputs, dims, max_batch_size
from .parameters import CPU, Parameters, instance_count, shared_among
from .runtime import openvino
from .shapes import ShapeInference

MODEL_FILE = "model.xml"
VERSION = openvino.__version__.split("-")[0]
REPORTED = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "ENABLE_CPU_PINNING")


def model_path(folder: Path, config: Mapping[str, Any]) -> Path:
    """The model's file, or folder, in a version folder.

    Raises:
        LoadError: there is none.
    """
    path = folder / (config.get("default_model_filename") or MODEL_FILE)
    if not path.exists():
        raise LoadError(
            f"unable to find '{path}'; default_model_filename names another file (an ONNX file: model.onnx)"
        )
    return path


def read_model(core: openvino.Core, path: Path) -> openvino.Model:
    """The graph as it is in the file.

    Raises:
        LoadError: OpenVINO cannot read it.
    """
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        raise LoadError(f"OpenVINO {VERSION} cannot load {path}: {reason(error)}") from error


def prepared_model(model: openvino.Model, config: Mapping[str, Any], parameters: Parameters) -> openvino.Model:
    """The graph with the config's types, dims and batch size, as the C++ backend makes it.

    Raises:
        LoadError: the config does not fit the graph.
    """
    check(config)
    graph = Graph.of(model)
    check_inputs(config, graph, reshape_io_layers=parameters.reshape_io_layers)
    batch_size = max_batch_size(config)
    try:
        model = _with_inputs(model, graph, config, reshape=parameters.reshape_io_layers)
        if batch_size:
            openvino.set_batch(model, batch_size)
        check_outputs(config, Graph.of(model))
        outputs = openvino.preprocess.PrePostProcessor(model)
        for tensor in config["output"]:
            outputs.output(tensor["name"]).tensor().set_element_type(_element_type(tensor))
        model = outputs.build()
    except RuntimeError as error:
        raise LoadError(f"OpenVINO cannot give the graph the config's types and dims: {reason(error)}") from error
    if parameters.batch_padding:
        _check_padding(Graph.of(model), batch_size)
    return model


@dataclass(frozen=True)
class _Output:
    """What a tensor for an output is made of: empty where a dimension is open, so that nothing old can be read from it.

    Read once: asking a compiled model for its ports takes longer than a small run.
    """

    index: int
    element_type: openvino.Type
    least_shape: list[int]

    @classmethod
    def of(cls, index: int, port: Any) -> _Output:
        return cls(index, port.element_type, [dim.min_length for dim in port.partial_shape])


class CompiledModel:
    """One instance's model. One thread at a time.

    Args:
        path: the model's file.
        config: the model config.

    Raises:
        LoadError: the config asks for what is not there, or does not fit the graph, or OpenVINO refuses the file.
    """

    # What `_compile` makes.
    _compiled: Any
    _request: Any
    _inputs: dict[str, int]
    _outputs: dict[str, _Output]

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path = path
        self._config = config
        self._parameters = Parameters.of(config)
        self._core = openvino.Core()
        self._configure()
        model = self._read()
        self.graph = Graph.of(model)
        self._shapes = ShapeInference(model, self._read)
        self._compile(model)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The config's outputs for ``feed``, which is read in place.

        Args:
            feed: every input of the graph, of the config's types.

        Raises:
            RequestError: the graph does not take inputs of these shapes.
            InferenceError: OpenVINO failed.
        """
        objection = self._shapes.objection({name: array.shape for name, array in feed.items()})
        if objection:
            shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in feed.items())
            raise RequestError(f"the model does not take inputs of these shapes ({shapes}): {objection}")
        for name, array in feed.items():
            self._set_input(name, array)
        outputs = {name: self._fresh_output(output) for name, output in self._outputs.items()}
        try:
            self._request.infer(share_outputs=True)
            _check_written(outputs)
        except RuntimeError as error:
            # A failed run leaves OpenVINO's CPU plugin unfit for good inputs: see the package's docstring.
            self._request = self._compiled = None  # frees the memory of the old one first
            self._compile(self._read())
            raise InferenceError(reason(error)) from error
        return {name: tensor.data for name, tensor in outputs.items()}

    def __str__(self) -> str:
        """What it runs on, for the log."""
        values = {key: self._compiled.get_property(key) for key in REPORTED}
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        words = ", ".join(f"{key} {getattr(value, 'name', value)}" for key, value in values.items())
        return f"OpenVINO {VERSION}, {words}, {precision} where the graph leaves it open"

    def _set_input(self, name: str, array: Array) -> None:
        try:
            tensor = openvino.Tensor(np.require(array, requirements=["C", "W"]), shared_memory=True)
            self._request.set_input_tensor(self._inputs[name], tensor)
        except RuntimeError as error:
            raise RequestError(
                f"input '{name}' has shape {list(array.shape)}, the model takes {self.graph.inputs[name].shape}"
            ) from error

    def _fresh_output(self, output: _Output) -> openvino.Tensor:
        tensor = openvino.Tensor(output.element_type, output.least_shape)
        tensor.data.fill(0)
        self._request.set_output_tensor(output.index, tensor)
        return tensor

    def _configure(self) -> None:
        extension = self._parameters.cpu_extension_path
        if extension:
            try:
                self._core.add_extension(extension)
            except RuntimeError as error:
                raise LoadError(f"parameter CPU_EXTENSION_PATH: cannot load {extension}: {reason(error)}") from error
        cores = len(os.sched_getaffinity(0))
        given = shared_among(self._parameters.properties, instance_count(self._config), cores)
        if given.get("INFERENCE_PRECISION_HINT") == "bf16":
            _check_bf16(self._core.get_property(CPU, "OPTIMIZATION_CAPABILITIES"))
        for key, value in given.items():
            self._set_property(key, value)

    def _set_property(self, key: str, value: Any) -> None:
        try:
            self._core.set_property(CPU, {key: value})
        except RuntimeError as error:
            raise LoadError(f"OpenVINO {VERSION} refuses {key} = {value}: {reason(error)}") from error

    def _read(self) -> openvino.Model:
        return prepared_model(read_model(self._core, self._path), self._config, self._parameters)

    def _compile(self, model: openvino.Model) -> None:
        batching = bool(max_batch_size(self._config)) and not self._parameters.skip_dynamic_batch_size
        try:
            self._compiled = self._core.compile_model(model, CPU, {"ALLOW_AUTO_BATCHING": batching})
            self._request = self._compiled.create_infer_request()
        except RuntimeError as error:
            raise LoadError(f"OpenVINO {VERSION} cannot compile {self._path}: {reason(error)}") from error
        self._inputs = _indices(self._compiled.inputs)
        ports = self._compiled.outputs
        indices = _indices(ports)
        names = [tensor["name"] for tensor in self._config["output"]]
        self._outputs = {name: _Output.of(indices[name], ports[indices[name]]) for name in names}


def _with_inputs(model: openvino.Model, graph: Graph, config: Mapping[str, Any], *, reshape: bool) -> openvino.Model:
    batch_size = max_batch_size(config)
    inputs = openvino.preprocess.PrePostProcessor(model)
    for tensor in config["input"]:
        info = inputs.input(tensor["name"]).tensor()
        info.set_element_type(_element_type(tensor))
        if reshape:
            shape = graph.inputs[tensor["name"]].shape
            info.set_shape([*shape[: 1 if batch_size else 0], *dims(tensor)])
        if batch_size:
            info.set_layout(openvino.Layout("N..."))
    return inputs.build()


def _element_type(tensor: Mapping[str, Any]) -> openvino.Type:
    return getattr(openvino.Type, ELEMENT_TYPES[tensor["data_type"]])


def _indices(ports: list[Any]) -> dict[str, int]:
    return {name: index for index, port in enumerate(ports) for name in port.get_names()}


def _check_bf16(capabilities: list[str]) -> None:
    if "BF16" not in capabilities:
        raise LoadError(
            f"parameter HINT_BF16 is YES, but this CPU has no bfloat16 instructions (it has {', '.join(capabilities)}) "
            "and imitating them is many times slower than FP32; serve the fp32 or int8 model here"
        )


def _check_written(outputs: Mapping[str, openvino.Tensor]) -> None:
    # On one thread OpenVINO's CPU plugin keeps to itself that shapes inside the graph do not fit.
    for name, tensor in outputs.items():
        if not tensor.get_size():
            raise RuntimeError(f"no output '{name}': the graph does not take these shapes")


def _check_padding(graph: Graph, batch_size: int) -> None:
    for tensor in graph.inputs.values():
        if batch_size and -1 in tensor.shape:
            raise LoadError(
                f"ENABLE_BATCH_PADDING fills up inputs of fixed dims only, input '{tensor.name}' has {tensor.shape}; "
                "use max_batch_size: 0 with the batch dimension in the dims"
            )
