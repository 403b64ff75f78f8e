"""Exports without a checkpoint: version folders of a few bytes (or megabytes), published by the real code.

ModelRepository ◄── publish(repository, "sentiment")       sentiment, sentiment_fp32, sentiment_int8
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from export.manifest import CheckpointSource, Manifest, hash_files
from export.repository import ModelRepository
from export.serving import ServingOptions
from export.staging import Staging
from export.triton_config import tensor_configs, text_configs

INPUTS = ("input_ids", "attention_mask")
LABELS = ("negative", "positive")
TASK = "text-classification"
DEFAULTS = ServingOptions()
Fill = Callable[[Path], None]


def random_model(folder: Path, size_bytes: int = 100) -> None:
    """Fills the version folder of a tensor model with bytes that no other version has."""
    (folder / "model.onnx").write_bytes(os.urandom(size_bytes))


def random_tokenizer(folder: Path) -> None:
    """Fills the version folder of a text model, but for its labels, likewise."""
    (folder / "tokenizer.json").write_text(json.dumps(os.urandom(16).hex()))


def write_manifest(folder: Path, model: str, version: int, precision: str | None = None) -> None:
    """The manifest of what lies in ``folder``."""
    source = CheckpointSource("tiny", licence="apache-2.0")
    Manifest(model, version, TASK, precision, source, files=hash_files(folder)).write(folder)


def stage_tensor_model(
    staging: Staging,
    name: str,
    precision: str,
    version: int,
    *,
    inputs: Sequence[str] = INPUTS,
    labels: Sequence[str] = LABELS,
    options: ServingOptions = DEFAULTS,
    fill: Fill = random_model,
) -> None:
    """One tensor model, ready for the commit."""
    model = f"{name}_{precision}"
    folder = staging.folder(model, version)
    fill(folder)
    write_manifest(folder, model, version, precision)
    configs = tensor_configs(name, precision, task=TASK, inputs=inputs, labels=labels, options=options)
    staging.publish(model, version, configs)


def stage_text_model(
    staging: Staging,
    name: str,
    version: int,
    *,
    served: str = "int8",
    inputs: Sequence[str] = INPUTS,
    labels: Sequence[str] = LABELS,
    options: ServingOptions = DEFAULTS,
    fill: Fill = random_tokenizer,
) -> None:
    """One text model, ready for the commit, that calls precision ``served`` on all hardware."""
    folder = staging.folder(name, version)
    fill(folder)
    (folder / "labels.json").write_text(json.dumps(list(labels)))
    write_manifest(folder, name, version)
    configs = text_configs(
        name,
        task=TASK,
        served={"cpu": served, "gpu": served},
        inputs=inputs,
        labels=labels,
        max_length=128,
        pad_token_id=0,
        options=options,
    )
    staging.publish(name, version, configs)


def stage(
    staging: Staging,
    name: str = "sentiment",
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    labels: Sequence[str] = LABELS,
    inputs: Sequence[str] = INPUTS,
    options: ServingOptions = DEFAULTS,
    fill: Fill = random_model,
    fill_text: Fill = random_tokenizer,
) -> int:
    """A text model and its tensor models, ready for the commit; returns their version.

    The text model comes first here, so that the order of the commit is the commit's own doing.
    """
    version = staging.repository.next_version(name)
    common = {"labels": labels, "inputs": inputs, "options": options}
    stage_text_model(staging, name, version, served=precisions[-1], fill=fill_text, **common)
    for precision in precisions:
        stage_tensor_model(staging, name, precision, version, fill=fill, **common)
    return version


def publish(repository: ModelRepository, name: str = "sentiment", *, allow_labels: bool = False, **what: object) -> int:
    """A whole export; ``what`` is that of `stage`. Returns the version."""
    with repository.staging(allow_labels=allow_labels) as staging:
        version = stage(staging, name, **what)  # type: ignore[arg-type]
        staging.commit()
    return version


def contents(path: Path) -> dict[str, bytes | None]:
    """Every file and folder (None) below ``path``, but the lock."""
    found = {item.relative_to(path).as_posix(): item for item in path.rglob("*")}
    return {
        name: item.read_bytes() if item.is_file() else None
        for name, item in found.items()
        if not item.name.startswith(".export.lock")
    }


def beside(repository: ModelRepository) -> list[str]:
    """What lies in the folder that holds the repository, and hidden in the repository itself, but for the lock."""
    hidden = [path.name for path in repository.path.rglob(".*") if path.name != ".export.lock"]
    return sorted([path.name for path in repository.path.parent.iterdir()] + hidden)
