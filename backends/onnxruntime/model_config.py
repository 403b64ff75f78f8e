"""A model's config against its graph: completed where it is silent, refused where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import LoadError
from .graph import Graph, Tensor

# What the C++ backend fills in: its `default-max-batch-size`, which Triton sets to 4.
DEFAULT_MAX_BATCH_SIZE = 4

UNSUPPORTED = ("batch_input", "batch_output", "sequence_batching", "model_operations")


def needs_completion(config: Mapping[str, Any]) -> bool:
    """Whether inputs or outputs are missing; else the config is taken as it is."""
    return not (config.get("input") and config.get("output"))


def completed_max_batch_size(config: Mapping[str, Any], graph: Graph) -> int:
    """``max_batch_size`` of a config that is completed.

    Raises:
        LoadError: the config wants batches and the graph takes none.
    """
    given = int(config.get("max_batch_size", 0))
    if graph.batches:
        return given or DEFAULT_MAX_BATCH_SIZE
    if given:
        raise LoadError("model does not support batching while non-zero max_batch_size is specified")
    return 0


def completed_tensors(tensors: Mapping[str, Tensor], max_batch_size: int) -> list[dict[str, Any]]:
    """Inputs or outputs as config dictionaries, without the batch dimension.

    Raises:
        LoadError: a tensor has only the batch dimension; Triton completes no ``reshape`` for a Python-based backend.
    """
    completed = []
    for tensor in tensors.values():
        dims = list(tensor.dims[1:] if max_batch_size else tensor.dims)
        if not dims and max_batch_size:
            raise LoadError(
                f"'{tensor.name}' has only a batch dimension: name it in config.pbtxt with dims: [ 1 ] and "
                "reshape { shape: [ ] }"
            )
        completed.append({"name": tensor.name, "data_type": tensor.data_type, "dims": dims or [1]})
    return completed


def check(config: Mapping[str, Any], graph: Graph) -> None:
    """Hold a complete config against the graph.

    Raises:
        LoadError: count, name, type or dims of an input or output differ, or the config uses what is not served.
    """
    for key in UNSUPPORTED:
        if config.get(key):
            raise LoadError(f"{key} is not served by this stand-in; use NVIDIA's container")
    max_batch_size = int(config.get("max_batch_size", 0))
    inputs, outputs = config.get("input", []), config.get("output", [])
    if not inputs or not outputs:
        raise LoadError(
            f"the configuration has {len(inputs)} inputs and {len(outputs)} outputs; name at least one each"
        )
    required = [tensor for tensor in inputs if not tensor.get("optional")]
    if len(required) != len(graph.inputs):
        raise LoadError(
            f"configuration expects {len(required)} inputs ({_names(required)}), model provides {len(graph.inputs)} "
            f"({', '.join(graph.inputs)})"
        )
    for tensor in inputs:
        _check_input(tensor, max_batch_size)
        known = {**graph.inputs, **graph.optional_inputs} if tensor.get("optional") else graph.inputs
        _check_tensor("input", tensor, known, max_batch_size, exact=False)
    for tensor in outputs:
        _check_tensor("output", tensor, graph.outputs, max_batch_size, exact=True)


def _check_input(given: Mapping[str, Any], max_batch_size: int) -> None:
    if given.get("optional") and max_batch_size:
        raise LoadError(f"optional input '{given['name']}' is not supported for models that support batching")
    if given.get("allow_ragged_batch"):
        raise LoadError(f"allow_ragged_batch of input '{given['name']}' is not served by this stand-in")


def _check_tensor(
    kind: str, given: Mapping[str, Any], known: Mapping[str, Tensor], max_batch_size: int, *, exact: bool
) -> None:
    name = given["name"]
    if name not in known:
        raise LoadError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(known)}")
    tensor = known[name]
    if given.get("data_type") != tensor.data_type:
        raise LoadError(
            f"configuration expects datatype {given.get('data_type')} for {kind} '{name}', "
            f"model provides {tensor.data_type}"
        )
    reshape = given.get("reshape")
    dims = [int(dim) for dim in (reshape.get("shape", []) if reshape is not None else given.get("dims", []))]
    if not tensor.dims:
        if any(dim != 1 for dim in dims):
            raise LoadError(f"scalar tensor '{name}' should have only 1 in its dims, the configuration has {dims}")
        return
    full = [-1, *dims] if max_batch_size else dims
    if not _fits(tensor.dims, full, exact=exact, batched=bool(max_batch_size)):
        raise LoadError(
            f"tensor '{name}': the model expects {len(tensor.dims)} dimensions (shape {list(tensor.dims)}) but the "
            f"model configuration specifies {len(full)} dimensions (shape {full}"
            f"{', the first of them the batch, because max_batch_size > 0' if max_batch_size else ''})"
        )


def _fits(model: tuple[int, ...], given: list[int], *, exact: bool, batched: bool) -> bool:
    """The C++ backend's rule: equal ranks, an open batch dimension, equal dims (inputs: where the graph has any)."""
    if len(model) != len(given) or (batched and model[0] != -1):
        return False
    return all(expected == dim or (expected == -1 and not exact) for expected, dim in zip(model, given, strict=True))


def _names(tensors: list[Mapping[str, Any]]) -> str:
    return ", ".join(str(tensor["name"]) for tensor in tensors)
