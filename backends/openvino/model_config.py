"""A model's config against its graph: completed where it is silent, refused where it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import LoadError
from .graph import ELEMENT_TYPES, Graph, Tensor

# What the C++ backend fills in: its `default-max-batch-size`, which Triton sets to 4.
DEFAULT_MAX_BATCH_SIZE = 4

UNSUPPORTED = ("batch_input", "batch_output", "sequence_batching", "model_operations")
UNSUPPORTED_OF_INPUTS = ("allow_ragged_batch", "optional")


def needs_completion(config: Mapping[str, Any]) -> bool:
    """Whether inputs or outputs are missing; else the config is taken as it is."""
    return not (config.get("input") and config.get("output"))


def check_kind(kind: str) -> None:
    """Refuse what is not a CPU instance, ``kind`` being Triton's word without ``KIND_``.

    Raises:
        LoadError: it is another kind.
    """
    if kind != "CPU":
        raise LoadError(f"the instance is of KIND_{kind}; the OpenVINO backend supports only KIND_CPU")


def max_batch_size(config: Mapping[str, Any]) -> int:
    """``max_batch_size``; 0 where batches are no business of Triton's."""
    return int(config.get("max_batch_size", 0))


def completed_max_batch_size(config: Mapping[str, Any], graph: Graph) -> int:
    """``max_batch_size`` of a config that is completed: what it says, or Triton's default if the graph has batches."""
    return max_batch_size(config) or (DEFAULT_MAX_BATCH_SIZE if graph.batches else 0)


def completed_tensors(tensors: Mapping[str, Tensor], batch_size: int) -> list[dict[str, Any]]:
    """Inputs or outputs as config dictionaries, without the batch dimension.

    Raises:
        LoadError: a type is not served, or a shape is open in part, which the C++ backend completes wrongly.
    """
    return [_completed(tensor, batch_size) for tensor in tensors.values()]


def _completed(tensor: Tensor, batch_size: int) -> dict[str, Any]:
    # The C++ backend writes -1 for every dimension as soon as one is open, and then finds that a fixed one is not -1.
    dims = tensor.shape[1:] if batch_size else tensor.shape
    if -1 in tensor.shape and any(size != -1 for size in dims):
        raise LoadError(
            f"'{tensor.name}' has shape {tensor.shape}, open in part, which cannot be completed; name inputs and "
            "outputs in config.pbtxt"
        )
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": dims}


def check(config: Mapping[str, Any]) -> None:
    """Refuse what is not served, whatever the graph.

    Raises:
        LoadError: the config uses it.
    """
    for key in UNSUPPORTED:
        if config.get(key):
            raise LoadError(f"{key} is not served by this stand-in; use NVIDIA's container")
    inputs, outputs = config.get("input", []), config.get("output", [])
    if not inputs or not outputs:
        raise LoadError(
            f"the configuration has {len(inputs)} inputs and {len(outputs)} outputs; name at least one each"
        )
    for tensor in inputs:
        for key in UNSUPPORTED_OF_INPUTS:
            if tensor.get(key):
                raise LoadError(f"{key} of input '{tensor['name']}' is not served by this stand-in")


def check_inputs(config: Mapping[str, Any], graph: Graph, *, reshape_io_layers: bool) -> None:
    """Hold a config's inputs against the graph as it was read.

    Args:
        config: the model config.
        graph: the graph.
        reshape_io_layers: whether the graph takes the config's dims, so that they may differ.

    Raises:
        LoadError: count, name, type or dims differ.
    """
    given = config["input"]
    if len(given) != len(graph.inputs):
        raise LoadError(
            f"configuration expects {len(given)} inputs ({_names(given)}), model provides {len(graph.inputs)} "
            f"({', '.join(graph.inputs)})"
        )
    for tensor in given:
        found = _found("input", tensor, graph.inputs)
        if not reshape_io_layers:
            _check_dims(found, dims(tensor), max_batch_size(config), exact=False)


def check_outputs(config: Mapping[str, Any], graph: Graph) -> None:
    """Hold a config's outputs against the graph, its batch size already fixed.

    Raises:
        LoadError: name, type or dims of an output differ.
    """
    for tensor in config["output"]:
        _check_dims(_found("output", tensor, graph.outputs), dims(tensor), max_batch_size(config), exact=True)


def dims(tensor: Mapping[str, Any]) -> list[int]:
    """What a config says of a tensor's dims on the backend's side, without the batch dimension."""
    reshape = tensor.get("reshape")
    given = tensor.get("dims", []) if reshape is None else reshape.get("shape", [])
    return [int(dim) for dim in given]


def _found(kind: str, given: Mapping[str, Any], known: Mapping[str, Tensor]) -> Tensor:
    name = given["name"]
    if name not in known:
        raise LoadError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(known)}")
    if given.get("data_type") not in ELEMENT_TYPES:
        raise LoadError(
            f"unsupported datatype {given.get('data_type')} for {kind} '{name}'; expected one of "
            f"{', '.join(ELEMENT_TYPES)}"
        )
    return known[name]


def _check_dims(tensor: Tensor, given: Sequence[int], batch_size: int, *, exact: bool) -> None:
    full = [batch_size, *given] if batch_size else list(given)
    # The C++ backend's rule: of a model with batches an input's batch dimension, and dims that say -1, may be anything.
    loose = bool(batch_size) and not exact
    fits = len(tensor.dims) == len(full) and all(
        (loose and (axis == 0 or size == -1)) or dim.takes(size)
        for axis, (dim, size) in enumerate(zip(tensor.dims, full, strict=True))
    )
    if not fits:
        raise LoadError(
            f"tensor '{tensor.name}': the model expects {len(tensor.dims)} dimensions (shape {tensor.shape}) but the "
            f"model configuration specifies {len(full)} dimensions (shape {full}"
            f"{', the first of them the batch, because max_batch_size > 0' if batch_size else ''})"
        )


def _names(tensors: list[Mapping[str, Any]]) -> str:
    return ", ".join(str(tensor["name"]) for tensor in tensors)
