"""The data of one model version: ``tokenizer.json`` and ``labels.json``, and the config they must fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .decode import NUM_LABELS, Task, Tensor

TOKENIZER_FILE = "tokenizer.json"
LABELS_FILE = "labels.json"


class VersionFolderError(ValueError):
    """The version folder is incomplete, or does not fit the model's config."""


def tokenizer_path(folder: Path) -> Path:
    """Path of the version's tokenizer.

    Raises:
        VersionFolderError: there is none.
    """
    return _existing(folder / TOKENIZER_FILE)


def read_labels(folder: Path) -> list[str]:
    """The version's label names, index = id.

    Raises:
        VersionFolderError: the file is missing or is not a JSON list of names.
    """
    path = _existing(folder / LABELS_FILE)
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VersionFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise VersionFolderError(f"{path} is not a JSON list of label names")
    return labels


def tensors(task: Task, num_labels: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs of a model of ``task``, as Triton's config dictionaries."""
    return (
        [_as_config(tensor, num_labels) for tensor in task.inputs],
        [_as_config(tensor, num_labels) for tensor in task.outputs],
    )


def check_tensors(config: dict[str, Any], task: Task, num_labels: int) -> None:
    """Hold the config's inputs and outputs against the task and the labels.

    Raises:
        VersionFolderError: they differ; names the first difference.
    """
    inputs, outputs = tensors(task, num_labels)
    for kind, expected in (("input", inputs), ("output", outputs)):
        given = {tensor["name"]: tensor for tensor in config.get(kind, [])}
        names = [tensor["name"] for tensor in expected]
        if sorted(given) != sorted(names):
            raise VersionFolderError(
                f"{kind}s are {', '.join(sorted(given)) or 'none'}; task {task.name} has {', '.join(names)}"
            )
        for tensor in expected:
            _check_tensor(kind, given[tensor["name"]], tensor, num_labels)


def _check_tensor(kind: str, given: dict[str, Any], expected: dict[str, Any], num_labels: int) -> None:
    name = expected["name"]
    if given.get("data_type") != expected["data_type"]:
        raise VersionFolderError(f"{kind} {name} is {given.get('data_type')}; expected {expected['data_type']}")
    dims = [int(dim) for dim in given.get("dims", [])]
    if dims != expected["dims"]:
        raise VersionFolderError(
            f"{kind} {name} has dims {dims}; expected {expected['dims']} ({LABELS_FILE} has {num_labels} labels)"
        )


def _as_config(tensor: Tensor, num_labels: int) -> dict[str, Any]:
    dims = [num_labels if dim == NUM_LABELS else dim for dim in tensor.dims]
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": dims}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise VersionFolderError(f"{path} is missing; `python -m export` writes it")
    return path
