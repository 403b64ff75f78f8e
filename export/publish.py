"""Completes the version folders of what passed its gates, and hands them to the repository."""

from __future__ import annotations

import json
from dataclasses import asdict

from bert_triton_client.contract import LABELS_FILE, TOKENIZER_FILE, tensor_model_name
from export import engines, processor, triton_config
from export.manifest import EngineReport, EngineTiming, Manifest, hash_files, tool_versions
from export.request import ExportReport, PrecisionReport
from export.source import Source
from export.staging import Staging

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "openvino", "tokenizers", "numpy")


def publish(report: ExportReport, source: Source, staging: Staging) -> None:
    """Publishes the precisions of ``report`` that did not fail, and the text model that calls them."""
    request = report.request
    for result in report.precisions:
        if result.failure is None:
            name = tensor_model_name(request.name, result.precision)
            configs = triton_config.tensor_configs(
                request.name,
                result.precision,
                request.task,
                source.inputs,
                list(source.text.labels),
                request.options,
                result.engine,
            )
            _seal(staging, name, report, source, configs=configs, result=result)
    folder = staging.folder(request.name, report.version)
    (folder / TOKENIZER_FILE).write_text(source.text.tokenizer_json(), encoding="utf-8")
    (folder / LABELS_FILE).write_text(json.dumps(source.text.labels, ensure_ascii=False) + "\n", encoding="utf-8")
    configs = triton_config.text_configs(
        request.name,
        request.task,
        report.served,
        source.inputs,
        list(source.text.labels),
        source.text.max_length,
        source.text.pad_token_id,
        request.options,
        packed=[result.precision for result in report.precisions if result.chosen and result.chosen.variant.packed],
    )
    _seal(staging, request.name, report, source, configs=configs, result=None)
    staging.commit()


def _seal(
    staging: Staging,
    model: str,
    report: ExportReport,
    source: Source,
    *,
    configs: dict[str, str],
    result: PrecisionReport | None,
) -> None:
    """Writes the manifest of a filled version folder, and publishes it."""
    folder = staging.place / model / str(report.version)
    every = tuple(gate for other in report.precisions if other.failure is None for gate in other.gates)
    variant = result.chosen.variant if result and result.chosen else None
    manifest = Manifest(
        model=model,
        version=report.version,
        task=report.request.task,
        precision=result.precision if result else None,
        checkpoint=source.origin,
        opset=variant.opset if variant else {},
        ir_version=variant.ir_version if variant else None,
        tools=tool_versions(TOOLS),
        gates=result.gates if result else every,
        graph=variant.graph if variant else None,
        files=hash_files(folder),
        architecture=source.architecture if result else None,
        engine=_engine(result, report.threads) if result else None,
    )
    manifest.write(folder)
    staging.publish(model, report.version, configs)


def _engine(result: PrecisionReport, threads: int) -> EngineReport | None:
    if result.chosen is None:
        return None
    return EngineReport(
        name=result.engine,
        version=engines.version(result.engine),
        layout="packed" if result.chosen.variant.packed else "padded",
        threads=threads,
        cpu=processor.name(),
        cpu_features=processor.features(),
        timings=tuple(
            EngineTiming(engine=tried.variant.engine, chosen=tried is result.chosen, **asdict(tried.timing))
            for tried in result.tried
        ),
    )
