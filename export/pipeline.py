"""From a checkpoint to models in the repository.

    read texts ── open the checkpoint ── ONNX ── fuse ──┬── fp32 ── examine ──┐
                                                        ├── fp16 ── examine ──┼── publish those that passed,
                                                        └── int8 ── examine ──┘   and the text model that calls them

Everything is built and judged in the repository's staging place, so that whatever fails or is killed leaves nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bert_triton_client.contract import MODEL_FILE, tensor_model_name
from export import data, fuse, gates
from export.cores import available_cores
from export.errors import FusionError, QualityError
from export.examination import Examination, ask, examine, prepare
from export.graph import describe, opsets
from export.manifest import GateResult
from export.precisions import Material, build
from export.progress import Steps
from export.publish import publish
from export.repository import ModelRepository
from export.request import ExportReport, ExportRequest, PrecisionReport
from export.source import Source, open_source
from export.staging import Staging

__all__ = ["ExportReport", "ExportRequest", "PrecisionReport", "run"]


def run(request: ExportRequest, steps: Steps | None = None) -> ExportReport:
    """Exports what ``request`` asks for.

    Precisions that fail a gate are not published and are in the report's ``failures``; the others are.

    Raises:
        ExportError: nothing was written (see `export.errors` for the branches).
    """
    steps = steps or Steps(quiet=True)
    threads = available_cores()
    texts = data.read(
        request.eval_data,
        request.calibration_data,
        text_column=request.text_column,
        label_column=request.label_column,
        seed=request.seed,
    )
    steps.say(f"loading {request.model or request.onnx}")
    source = _open(request)
    repository = ModelRepository(request.output)
    if "labels" not in request.allow:
        repository.check_labels(request.name, source.text.labels)
    questions = ask(source, texts, request.seed)
    with _workplace(request, repository) as (staging, place):
        version = repository.next_version(request.name)
        steps.say("writing and fusing the ONNX graph")
        fusion = _write_fused(source, place, allowed="fusion" in request.allow)
        examination = prepare(source, questions, place / "raw.onnx", threads=threads, seed=request.seed, steps=steps)
        material = Material(
            fused=place / "fused.onnx",
            calibration=questions.calibration,
            shapes=examination.shapes,
            int8_recipe=request.int8_recipe,
            threads=threads,
            steps=steps,
        )
        reports = []
        for precision in request.precisions:
            folder = _folder(staging, place, tensor_model_name(request.name, precision), version)
            reports.append(
                _make(precision, folder / MODEL_FILE, material, examination, fusion=fusion, allow=request.allow)
            )
        served = _served(request, reports)
        report = ExportReport(
            request, version, tuple(reports), served, threads, _notes(source, questions.calibration is None, request)
        )
        if staging is not None and served:
            steps.say(f"publishing version {version} in {request.output}")
            publish(report, source, staging)
    return report


def _open(request: ExportRequest) -> Source:
    return open_source(
        task=request.task,
        model=request.model,
        onnx=request.onnx,
        tokenizer=request.tokenizer,
        revision=request.revision,
        labels=request.labels,
        max_length=request.max_length,
    )


@contextmanager
def _workplace(request: ExportRequest, repository: ModelRepository) -> Iterator[tuple[Staging | None, Path]]:
    """The repository's staging and a folder in it to work in; for a dry run, a temporary folder alone."""
    if request.dry_run:
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            yield None, Path(folder)
        return
    with repository.staging(allow_labels="labels" in request.allow) as staging:
        place = staging.place / "_work"
        place.mkdir()
        yield staging, place


def _folder(staging: Staging | None, place: Path, model: str, version: int) -> Path:
    if staging is not None:
        return staging.folder(model, version)
    folder = place / model / str(version)
    folder.mkdir(parents=True)
    return folder


def _write_fused(source: Source, place: Path, *, allowed: bool) -> dict[str, int]:
    """Writes raw.onnx and fused.onnx to ``place``; returns the counts of fused nodes."""
    source.write(place / "raw.onnx")
    fused = fuse.fuse(place / "raw.onnx", place / "fused.onnx", source.shape)
    try:
        fuse.check(fused)
    except FusionError:
        if not allowed:
            raise
    return fused


def _make(
    precision: str,
    target: Path,
    material: Material,
    examination: Examination,
    *,
    fusion: dict[str, int],
    allow: frozenset[str],
) -> PrecisionReport:
    """Builds and judges one precision."""
    import onnx

    material.steps.say(f"{precision}: building")
    try:
        recorded = build(precision, material, target)
    except QualityError as exc:
        return PrecisionReport(precision, failure=exc)
    results, timing = examine(precision, target, examination, material.steps)
    results = [_fusion_gate(precision, fusion), *recorded, *results]
    results = [replace(result, allowed=not result.passed and result.gate in allow) for result in results]
    failed = next((result for result in results if not result.passed and not result.allowed), None)
    model = onnx.load(target)
    return PrecisionReport(
        precision,
        tuple(results),
        describe(model, target.stat().st_size),
        timing,
        gates.error_of(failed) if failed else None,
        opsets(model),
        model.ir_version,
    )


def _fusion_gate(precision: str, fused: dict[str, int]) -> GateResult:
    least = min(fused[name] for name in fuse.REQUIRED)
    return GateResult("fusion", precision, float(least), 1.0, least >= 1, detail=dict(fused))


def _served(request: ExportRequest, reports: list[PrecisionReport]) -> dict[str, str]:
    """The precision that the text model calls on each hardware; nothing when it would have to call a failed one."""
    published = tuple(report.precision for report in reports if report.failure is None)
    if not published or (request.serve_precision is not None and request.serve_precision not in published):
        return {}
    return request.served(published)


def _notes(source: Source, uncalibrated: bool, request: ExportRequest) -> tuple[str, ...]:
    notes = []
    if source.text.generic_labels:
        notes.append(f"the checkpoint does not name its labels; they are served as {', '.join(source.text.labels)}")
    if request.eval_data is None:
        notes.append(f"without --eval-data the gates {', '.join(gates.NEEDS_LABELS)} were not run")
    if "int8" in request.precisions and uncalibrated and request.int8_recipe is None:
        notes.append(
            "int8 was not calibrated: activations are scaled per token as they come, which is slower than static scales"
        )
    return tuple(notes)
