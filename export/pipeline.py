"""From a checkpoint to models in the repository.

    read texts ── open the checkpoint ── ONNX ── fuse ──┬── build ── time ── examine ──┬── choose ── publish
                                                        each precision, for each engine    those that passed, and the
                                                        that may serve it                  text model that calls them

Everything is built and judged in the repository's staging place, so that whatever fails or is killed leaves nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bert_triton_client.contract import ENGINES, MODEL_FILE, tensor_model_name
from export import choice, data, engines, fuse, gates, processor, timing
from export.contenders import Judge, compete
from export.cores import available_cores
from export.errors import FusionError
from export.examination import ask, prepare
from export.precisions import Material
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
            int8_engines=ENGINES["int8"] if request.engine == engines.AUTO else (request.engine,),
            packing=request.packing,
            threads=threads,
            steps=steps,
        )
        work = timing.workload(questions.mixed, request.options.tokens_per_call("cpu"), seed=request.seed)
        judge = Judge(examination, fusion, request.allow)
        results, notes = compete(request, material, judge, work, place)
        for precision, (_, variant) in results.items():
            if variant is not None:
                folder = _folder(staging, place, tensor_model_name(request.name, precision), version)
                variant.path.replace(folder / MODEL_FILE)
        reports = [report for report, _ in results.values()]
        served, reason = choice.served(request, reports)
        report = ExportReport(
            request=request,
            version=version,
            precisions=tuple(reports),
            served=served,
            threads=threads,
            work=work,
            notes=(*_notes(source, questions.calibration is None, request), *notes, *([reason] if reason else [])),
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


def _notes(source: Source, uncalibrated: bool, request: ExportRequest) -> Iterator[str]:
    if source.text.generic_labels:
        yield f"the checkpoint does not name its labels; they are served as {', '.join(source.text.labels)}"
    if request.eval_data is None:
        yield f"without --eval-data the gates {', '.join(gates.NEEDS_LABELS)} were not run"
    if "int8" in request.precisions and uncalibrated and request.int8_recipe is None:
        yield (
            "int8 was not calibrated: activations are scaled per token as they come, which is slower than static "
            "scales, and OpenVINO cannot do it"
        )
    yield (
        "gates hold for the kind of CPU that they ran on: on one with other instructions "
        f"(here {' '.join(processor.features()) or 'unknown'}) INT8 and BF16 products come out differently"
    )
