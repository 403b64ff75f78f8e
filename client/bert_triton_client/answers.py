"""What the client answers with: typed, immutable, picklable, and light enough for 100,000 of them.

Owns reading Triton's own answers (config, repository index, statistics), which differ in form
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


@dataclass(frozen=True)
class ModelInfo:
    """What a model's config says that a client needs."""

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: Mapping[str, str]

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
        )
        for row in rows
    )


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
class ModelStatistics:
    """What one version of a model has done since it was loaded.

    Attributes:
        requests: requests that succeeded.
        failures: requests that failed; Triton does not count those that a full queue refused.
        inferences: texts, or rows of tensors, that were answered.
        executions: batches they were run in.
        queue_ms: mean time a request waited for its batch.
        compute_ms: mean time of a request in the model, copies in and out included.
        cache_hits: requests answered by Triton's response cache.
    """

    name: str
    version: str
    requests: int
    failures: int
    inferences: int
    executions: int
    queue_ms: float
    compute_ms: float
    cache_hits: int

    @property
    def mean_batch_size(self) -> float:
        """Texts, or rows of tensors, of a mean batch."""
        return self.inferences / self.executions if self.executions else 0.0

    @classmethod
    def from_json(cls, statistics: Any) -> list[ModelStatistics]:
        """Reads Triton's statistics as JSON, sorted by name and version."""
        try:
            found = [cls._from_row(row) for row in statistics.get("model_stats", ())]
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswerError(f"not statistics: {str(statistics)[:200]}") from exc
        return sorted(found, key=lambda one: (one.name, len(one.version), one.version))

    @classmethod
    def _from_row(cls, row: Mapping[str, Any]) -> ModelStatistics:
        stats = row.get("inference_stats", {})

        def count(name: str) -> int:
            return int(stats.get(name, {}).get("count", 0))

        def total_ms(name: str) -> float:
            return int(stats.get(name, {}).get("ns", 0)) / 1e6

        compute = total_ms("compute_input") + total_ms("compute_infer") + total_ms("compute_output")
        return cls(
            name=row["name"],
            version=str(row.get("version", "")),
            requests=count("success"),
            failures=count("fail"),
            inferences=int(row.get("inference_count", 0)),
            executions=int(row.get("execution_count", 0)),
            queue_ms=total_ms("queue") / max(1, count("queue")),
            compute_ms=compute / max(1, count("compute_infer")),
            cache_hits=count("cache_hit"),
        )


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
