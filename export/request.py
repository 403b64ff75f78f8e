"""What an export is asked to do, and what it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bert_triton_client.contract import ENGINES, ONNXRUNTIME, OPENVINO, PRECISIONS, TASKS, TENSOR_BACKENDS
from export import engines, gates
from export.errors import QualityError, UsageError
from export.manifest import GateResult
from export.precisions import Variant
from export.quantize import RECIPES
from export.serving import ServingOptions
from export.timing import Timing, Workload
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
    precisions: tuple[str, ...] = field(default_factory=engines.default_precisions)
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
    engine: str = engines.AUTO
    packing: bool = True
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
        _require("--engine", self.engine, (engines.AUTO, *TENSOR_BACKENDS))
        self._check_engine()

    def _check_engine(self) -> None:
        asked = " ".join(self.precisions)
        if self.engine == ONNXRUNTIME and ONNXRUNTIME not in ENGINES["bf16"] and "bf16" in self.precisions:
            raise UsageError("--engine", self.engine, f"{OPENVINO} or {engines.AUTO} with --precision {asked}")
        if self.engine != engines.AUTO and not any(self.engine in ENGINES[precision] for precision in self.precisions):
            able = " or ".join(precision for precision, able in ENGINES.items() if self.engine in able)
            raise UsageError(
                "--engine", self.engine, f"{engines.AUTO} with --precision {asked}; {self.engine} serves {able}"
            )


def _require(flag: str, value: str, choices: Iterable[str]) -> None:
    names = list(choices)
    if value not in names:
        raise UsageError(flag, value, " or ".join(names))


@dataclass(frozen=True)
class Tried:
    """A precision built for one engine, and how that did.

    Attributes:
        variant: the graph and its engine.
        timing: beside all others of this export.
        gates: what it was judged by; empty when a faster one had passed.
        failure: why it cannot be published.
    """

    variant: Variant
    timing: Timing
    gates: tuple[GateResult, ...] = ()
    failure: QualityError | None = None


@dataclass(frozen=True)
class PrecisionReport:
    """What became of one precision.

    Attributes:
        precision: its name.
        chosen: what is published; with a ``failure``, what was judged first; None when nothing could be built.
        tried: everything that was built, the chosen one included, the fastest first.
        failure: why it was not published.
    """

    precision: str
    chosen: Tried | None = None
    tried: tuple[Tried, ...] = ()
    failure: QualityError | None = None

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """What the chosen one was judged by."""
        return self.chosen.gates if self.chosen else ()

    @property
    def timing(self) -> Timing | None:
        """How fast the chosen one is."""
        return self.chosen.timing if self.chosen else None

    @property
    def engine(self) -> str:
        """What runs the chosen one."""
        return self.chosen.variant.engine if self.chosen else ""


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        request: what it was asked for.
        version: the version of everything that it published.
        precisions: in the order in which they were asked for.
        served: the precision that the text model calls on each hardware; empty when nothing was published.
        threads: how many threads the times were measured with.
        work: what was timed.
        notes: what the caller should know though nothing failed.
    """

    request: ExportRequest
    version: int
    precisions: tuple[PrecisionReport, ...]
    served: dict[str, str]
    threads: int
    work: Workload
    notes: tuple[str, ...] = ()

    @property
    def published(self) -> tuple[str, ...]:
        """The precisions that were published."""
        return tuple(report.precision for report in self.precisions if report.failure is None) if self.served else ()

    @property
    def failures(self) -> tuple[QualityError, ...]:
        """Why precisions were not published."""
        return tuple(report.failure for report in self.precisions if report.failure is not None)
