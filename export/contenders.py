"""Every precision for every engine that may serve it: built, timed side by side, judged fastest first.

What an engine cannot run drops out; a precision fails when nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bert_triton_client.contract import ENGINES
from export import engines, fuse, gates
from export.errors import EngineError, QualityError
from export.evaluation import Classifier
from export.examination import Examination, examine
from export.manifest import GateResult
from export.precisions import Material, Variant, build
from export.request import ExportRequest, PrecisionReport, Tried
from export.timing import Timing, Workload, race


@dataclass
class Field:
    """What takes part.

    Attributes:
        variants: what was built, by precision.
        opened: the same, as they will be served.
        failures: why a precision has no variant.
        notes: what dropped out though its precision has others.
    """

    variants: dict[str, list[Variant]] = field(default_factory=dict)
    opened: dict[Variant, Classifier] = field(default_factory=dict)
    failures: dict[str, QualityError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """What decides about a variant: the examination, the fused nodes counted, and the gates that may fail."""

    examination: Examination
    fusion: dict[str, int]
    allow: frozenset[str]


def compete(
    request: ExportRequest, material: Material, judge: Judge, work: Workload, place: Path
) -> tuple[dict[str, tuple[PrecisionReport, Variant | None]], list[str]]:
    """Has every precision of ``request`` built, timed and judged.

    Returns:
        What became of each precision, with the variant to publish (None when it failed), and what the caller should
        know besides.
    """
    taking_part = _build(request, material, place)
    steps, opened = material.steps, taking_part.opened
    steps.say(f"timing {len(opened)} graphs in turn ({work.texts} texts of mixed lengths)")
    timings = race(opened, work, calls=request.options.instances_on("cpu"))
    opened.clear()  # each may hold several times the size of its file
    reports = {}
    for precision, variants in taking_part.variants.items():
        if variants:
            report, variant = reports[precision] = _judge(precision, variants, timings, judge, material)
            if variant is not None:
                failed = [tried for tried in report.tried if tried.failure is not None]
                taking_part.notes += [f"{tried.variant.engine} was faster, but {tried.failure}" for tried in failed]
        else:
            reports[precision] = PrecisionReport(precision, failure=taking_part.failures[precision]), None
    return reports, taking_part.notes


def _build(request: ExportRequest, material: Material, place: Path) -> Field:
    """Builds every variant that ``request`` allows, in ``place``, and opens it."""
    found = Field()
    for precision in request.precisions:
        able = found.variants.setdefault(precision, [])
        refused: list[QualityError] = []
        for engine in _engines(precision, request.engine, refused):
            material.steps.say(f"{precision}: building for {engine}")
            try:
                variant = build(precision, engine, material, place / f"{precision}_{engine}.onnx")
                found.opened[variant] = variant.classifier(
                    request.options.cpu_threads, calls=request.options.instances_on("cpu")
                )
            except QualityError as exc:
                refused.append(exc)
            else:
                able.append(variant)
        if not able:
            found.failures[precision] = refused[0]
        else:
            found.notes += [str(exc) for exc in refused]
            found.notes += _absent(precision, request.engine)
    return found


def _engines(precision: str, wanted: str, refused: list[QualityError]) -> tuple[str, ...]:
    try:
        return engines.candidates(precision, wanted)
    except EngineError as exc:
        refused.append(exc)
        return ()


def _absent(precision: str, wanted: str) -> Iterator[str]:
    """Says which engine could have taken part, but is not installed."""
    for engine in ENGINES[precision]:
        if wanted == engines.AUTO and not engines.is_installed(engine):
            yield f"{engine} is not installed, so {precision} was not tried with it"


def _judge(
    precision: str, variants: list[Variant], timings: dict[Variant, Timing], judge: Judge, material: Material
) -> tuple[PrecisionReport, Variant | None]:
    """Examines the variants of one precision, the fastest first, until one passes; that one is chosen."""
    order = sorted(variants, key=lambda variant: -timings[variant].texts_per_s)
    tried = [Tried(variant, timings[variant]) for variant in order]
    for index, variant in enumerate(order):
        tried[index] = _examine(tried[index], judge, material)
        if tried[index].failure is None:
            return PrecisionReport(precision, tried[index], tuple(tried)), variant
    return PrecisionReport(precision, tried[0], tuple(tried), tried[0].failure), None


def _examine(tried: Tried, judge: Judge, material: Material) -> Tried:
    variant = tried.variant
    least = min(judge.fusion[name] for name in fuse.REQUIRED)
    fused = GateResult("fusion", variant.precision, float(least), 1.0, least >= 1, detail=dict(judge.fusion))
    found = [fused, *variant.recorded, *examine(variant, judge.examination, material.steps)]
    results = tuple(replace(result, allowed=not result.passed and result.gate in judge.allow) for result in found)
    failed = next((result for result in results if not result.passed and not result.allowed), None)
    return replace(tried, gates=results, failure=gates.error_of(failed) if failed else None)
