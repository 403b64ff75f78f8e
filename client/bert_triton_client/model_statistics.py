"""What Triton has counted of a model: requests, batches, and where their time went.

Owns reading Triton's statistics, which differ in form between the protocols: gRPC leaves out zeros and writes 64-bit
integers as strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import UnexpectedAnswerError


@dataclass(frozen=True)
class Duration:
    """How often a step was done, and how long that took in all.

    Attributes:
        count: requests that took the step.
        total_ns: their time, added up.
    """

    count: int = 0
    total_ns: int = 0

    @property
    def mean_ms(self) -> float:
        """Of one request; 0 without any."""
        return self.total_ns / 1e6 / max(1, self.count)

    def since(self, earlier: Duration) -> Duration:
        """What was added since an earlier reading."""
        return Duration(self.count - earlier.count, self.total_ns - earlier.total_ns)


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
        queue: what `queue_ms` is the mean of; two equal statistics may differ in this and the following.
        compute_input: copying the inputs. Requests that a cache answered are in none of the three.
        compute_infer: the model itself.
        compute_output: copying the outputs.
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
    queue: Duration = field(default=Duration(), compare=False)
    compute_input: Duration = field(default=Duration(), compare=False)
    compute_infer: Duration = field(default=Duration(), compare=False)
    compute_output: Duration = field(default=Duration(), compare=False)

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

    def since(self, earlier: ModelStatistics) -> ModelStatistics:
        """What was added since an earlier reading of the same version; the means are of that alone.

        Raises:
            UnexpectedAnswerError: a counter went down: the server, or the model, was loaded anew in between.
        """
        return self._of(
            self.name,
            self.version,
            requests=self._added(earlier, "requests"),
            failures=self._added(earlier, "failures"),
            inferences=self._added(earlier, "inferences"),
            executions=self._added(earlier, "executions"),
            cache_hits=self._added(earlier, "cache_hits"),
            queue=self.queue.since(earlier.queue),
            compute=[now.since(then) for now, then in zip(self._compute, earlier._compute, strict=True)],
        )

    def _added(self, earlier: ModelStatistics, name: str) -> int:
        now, then = getattr(self, name), getattr(earlier, name)
        if now < then:
            raise UnexpectedAnswerError(
                f"model {self.name!r} version {self.version}: its counter of {name} went down from {then} to {now}: "
                "the server, or the model, was loaded anew in between"
            )
        return int(now - then)

    @property
    def _compute(self) -> tuple[Duration, Duration, Duration]:
        return self.compute_input, self.compute_infer, self.compute_output

    @classmethod
    def _of(
        cls, name: str, version: str, *, queue: Duration, compute: Sequence[Duration], **counts: int
    ) -> ModelStatistics:
        compute_input, compute_infer, compute_output = compute
        return cls(
            name=name,
            version=version,
            queue_ms=queue.mean_ms,
            compute_ms=Duration(compute_infer.count, sum(one.total_ns for one in compute)).mean_ms,
            queue=queue,
            compute_input=compute_input,
            compute_infer=compute_infer,
            compute_output=compute_output,
            **counts,
        )

    @classmethod
    def _from_row(cls, row: Mapping[str, Any]) -> ModelStatistics:
        stats = row.get("inference_stats", {})

        def duration(name: str) -> Duration:
            pair = stats.get(name, {})
            return Duration(int(pair.get("count", 0)), int(pair.get("ns", 0)))

        return cls._of(
            row["name"],
            str(row.get("version", "")),
            requests=duration("success").count,
            failures=duration("fail").count,
            inferences=int(row.get("inference_count", 0)),
            executions=int(row.get("execution_count", 0)),
            cache_hits=duration("cache_hit").count,
            queue=duration("queue"),
            compute=[duration(f"compute_{step}") for step in ("input", "infer", "output")],
        )
