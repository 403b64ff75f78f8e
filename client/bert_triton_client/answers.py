"""What the client answers with: typed, immutable, picklable, and light enough for 100,000 of them.

Owns reading Triton's own answers (config, metadata, repository index), which differ in form
between the protocols: gRPC leaves out zeros and writes 64-bit integers as strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import contract
from .errors import UnexpectedAnswerError


class Classification(NamedTuple):
    """The answer to one text.

    Attributes:
        label: the most probable label.
        score: its probability.
        probabilities: of every label, by label id.
    """

    label: str
    score: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model; ``dims`` leaves out the batch dimension, -1 is any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False  # an input that a request may leave out


@dataclass(frozen=True)
class InstanceGroup:
    """Equal instances of a model; ``count`` is for each of the ``gpus``, if there are any."""

    kind: str  # Triton's: KIND_CPU, KIND_GPU, KIND_MODEL, KIND_AUTO
    count: int
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class DynamicBatching:
    """How Triton forms a model's batches."""

    max_queue_delay_microseconds: int = 0
    preferred_batch_size: tuple[int, ...] = ()
    has_queue_policy: bool = False  # bounds the queue, or the time in it


@dataclass(frozen=True)
class ModelInfo:
    """What a model's config says that a client needs.

    Attributes:
        max_batch_size: 0: the model takes no batch dimension beside its dims.
        dynamic_batching: None: every request is a batch of its own.
        response_cache: Triton may answer a request that it has answered before.
        decoupled: a request may have any number of responses.
        sequences: requests belong to sequences.
        steps: of an ensemble, the models it is made of.
    """

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: Mapping[str, str]
    instance_groups: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    response_cache: bool = False
    decoupled: bool = False
    sequences: bool = False
    steps: tuple[str, ...] = ()

    @property
    def task(self) -> str | None:
        """Hugging Face's task name of a text model, None for a tensor model."""
        return self.parameters.get(contract.PARAM_TASK)

    @property
    def tensor_model(self) -> str | None:
        """The tensor model behind a text model."""
        return self.parameters.get(contract.PARAM_TENSOR_MODEL)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelInfo:
        """Reads a ModelConfig as JSON.

        Raises:
            UnexpectedAnswerError: it is no ModelConfig.
        """
        try:
            return cls(
                name=config["name"],
                backend=config.get("backend", ""),
                max_batch_size=int(config.get("max_batch_size", 0)),
                inputs=_tensors(config.get("input", ())),
                outputs=_tensors(config.get("output", ())),
                parameters={
                    key: value.get("string_value", "") for key, value in dict(config.get("parameters", {})).items()
                },
                instance_groups=_instance_groups(config.get("instance_group", ())),
                dynamic_batching=_dynamic_batching(config.get("dynamic_batching")),
                response_cache=bool(config.get("response_cache", {}).get("enable", False)),
                decoupled=bool(config.get("model_transaction_policy", {}).get("decoupled", False)),
                sequences="sequence_batching" in config,
                steps=tuple(step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswerError(f"not the config of a model: {str(config)[:200]}") from exc


def _tensors(rows: Any) -> tuple[TensorInfo, ...]:
    # TYPE_STRING of the config is BYTES of the protocol.
    return tuple(
        TensorInfo(
            row["name"],
            row["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES"),
            tuple(int(dim) for dim in row.get("dims", ())),
            bool(row.get("optional", False)),
        )
        for row in rows
    )


def _instance_groups(rows: Any) -> tuple[InstanceGroup, ...]:
    return tuple(
        InstanceGroup(
            row.get("kind", "KIND_AUTO"), int(row.get("count", 0)), tuple(int(gpu) for gpu in row.get("gpus", ()))
        )
        for row in rows
    )


def _dynamic_batching(row: Any) -> DynamicBatching | None:
    if row is None:
        return None
    return DynamicBatching(
        max_queue_delay_microseconds=int(row.get("max_queue_delay_microseconds", 0)),
        preferred_batch_size=tuple(int(size) for size in row.get("preferred_batch_size", ())),
        # HTTP writes an empty policy of the priority levels where there is none.
        has_queue_policy=bool(row.get("default_queue_policy")) or bool(row.get("priority_queue_policy")),
    )


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says of itself where its config may not be read.

    Attributes:
        versions: those that are ready, lowest first.
        platform: for example ``onnxruntime_onnx``.
        inputs: their ``dims`` include the batch dimension, as -1.
        outputs: likewise.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @classmethod
    def from_json(cls, metadata: Any) -> ModelMetadata:
        """Reads a model's metadata as JSON.

        Raises:
            UnexpectedAnswerError: it is no metadata.
        """
        try:
            return cls(
                name=metadata["name"],
                versions=tuple(sorted((str(v) for v in metadata.get("versions", ())), key=lambda v: (len(v), v))),
                platform=metadata.get("platform", ""),
                inputs=_metadata_tensors(metadata.get("inputs", ())),
                outputs=_metadata_tensors(metadata.get("outputs", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswerError(f"not the metadata of a model: {str(metadata)[:200]}") from exc


def _metadata_tensors(rows: Any) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(row["name"], row["datatype"], tuple(int(dim) for dim in row.get("shape", ()))) for row in rows
    )


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself."""

    name: str
    version: str
    extensions: tuple[str, ...]

    @classmethod
    def from_json(cls, metadata: Any) -> ServerInfo:
        """Reads a server's metadata as JSON.

        Raises:
            UnexpectedAnswerError: it is no metadata.
        """
        try:
            return cls(metadata["name"], str(metadata.get("version", "")), tuple(metadata.get("extensions", ())))
        except (AttributeError, KeyError, TypeError) as exc:
            raise UnexpectedAnswerError(f"not the metadata of a server: {str(metadata)[:200]}") from exc


@dataclass(frozen=True)
class ModelStatus:
    """One version of a model in the server's repository."""

    name: str
    version: str
    state: str  # Triton's: READY, UNAVAILABLE, LOADING, UNLOADING
    reason: str = ""

    @classmethod
    def from_index(cls, index: Any) -> list[ModelStatus]:
        """Reads a repository index as JSON, sorted by name and version."""
        rows = index.get("models", []) if isinstance(index, Mapping) else index
        try:
            found = [
                cls(row["name"], str(row.get("version", "")), row.get("state", ""), row.get("reason", ""))
                for row in rows
            ]
        except (AttributeError, KeyError, TypeError) as exc:
            raise UnexpectedAnswerError(f"not a repository index: {str(index)[:200]}") from exc
        return sorted(found, key=lambda status: (status.name, len(status.version), status.version))


@dataclass(frozen=True)
class Health:
    """What a look at the server found.

    Triton's own endpoints stay green while a model's process is dead, so the canary, a real
    inference, has the last word.

    Attributes:
        live: the server answers.
        ready: the server says it is ready.
        canary_ms: time of the canary; None if it failed or was not tried.
        reason: what is wrong; "" if nothing is.
    """

    live: bool
    ready: bool
    canary_ms: float | None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Text will be answered."""
        return self.live and self.ready and self.canary_ms is not None
