"""What an export is asked to do, and what it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bert_triton_client.contract import PRECISIONS, PREFERRED_PRECISIONS, TASKS
from export import gates
from export.errors import QualityError, UsageError
from export.examination import Timing
from export.manifest import GateResult, GraphReport
from export.quantize import RECIPES
from export.serving import ServingOptions
from export.triton_messages import check_name


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how: each field is the flag of the same name of ``python -m export``.

    Raises:
        UsageError: a value, or two together, cannot be.
    """

    name: str
    output: Path
    model: str | None = None
    task: str = "text-classification"
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    revision: str | None = None
    onnx: Path | None = None
    tokenizer: str | None = None
    labels: tuple[str, ...] | None = None
    max_length: int | None = None
    eval_data: Path | None = None
    calibration_data: Path | None = None
    text_column: str = "text"
    label_column: str = "label"
    int8_recipe: str | None = None
    serve_precision: str | None = None
    allow: frozenset[str] = frozenset()
    options: ServingOptions = field(default_factory=ServingOptions)
    dry_run: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        _require("--task", self.task, TASKS)
        for precision in self.precisions or ("",):
            _require("--precision", precision, PRECISIONS)
        if len(set(self.precisions)) < len(self.precisions):
            raise UsageError("--precision", " ".join(self.precisions), "each precision once")
        for gate in self.allow:
            _require("--allow", gate, gates.GATES)
        if self.serve_precision is not None:
            _require("--serve-precision", self.serve_precision, self.precisions)
        if self.int8_recipe is not None:
            _require("--int8-recipe", self.int8_recipe, RECIPES)

    def served(self, published: tuple[str, ...]) -> dict[str, str]:
        """Which of the ``published`` precisions the text model calls on each hardware."""
        return {
            hardware: self.serve_precision or next(precision for precision in preferred if precision in published)
            for hardware, preferred in PREFERRED_PRECISIONS.items()
        }


def _require(flag: str, value: str, choices: Iterable[str]) -> None:
    names = list(choices)
    if value not in names:
        raise UsageError(flag, value, " or ".join(names))


@dataclass(frozen=True)
class PrecisionReport:
    """What became of one precision; ``failure`` says why it was not published."""

    precision: str
    gates: tuple[GateResult, ...] = ()
    graph: GraphReport | None = None
    timing: Timing | None = None
    failure: QualityError | None = None
    opset: dict[str, int] = field(default_factory=dict)
    ir_version: int | None = None


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        request: what it was asked for.
        version: the version of everything that it published.
        precisions: in the order in which they were asked for.
        served: the precision that the text model calls on each hardware; empty when nothing was published.
        threads: how many threads the times were measured with.
        notes: what the caller should know though nothing failed.
    """

    request: ExportRequest
    version: int
    precisions: tuple[PrecisionReport, ...]
    served: dict[str, str]
    threads: int
    notes: tuple[str, ...] = ()

    @property
    def published(self) -> tuple[str, ...]:
        """The precisions that were published."""
        return tuple(report.precision for report in self.precisions if report.failure is None) if self.served else ()

    @property
    def failures(self) -> tuple[QualityError, ...]:
        """Why precisions were not published."""
        return tuple(report.failure for report in self.precisions if report.failure is not None)
