"""Completes the version folders of what passed its gates, and hands them to the repository."""

from __future__ import annotations

import json

from bert_triton_client.contract import LABELS_FILE, TOKENIZER_FILE, tensor_model_name
from export import triton_config
from export.manifest import Manifest, hash_files, tool_versions
from export.request import ExportReport, PrecisionReport
from export.source import Source
from export.staging import Staging

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "tokenizers", "numpy")


def publish(report: ExportReport, source: Source, staging: Staging) -> None:
    """Publishes the precisions of ``report`` that did not fail, and the text model that calls them."""
    request = report.request
    for result in report.precisions:
        if result.failure is None:
            name = tensor_model_name(request.name, result.precision)
            configs = triton_config.tensor_configs(
                request.name, result.precision, request.task, source.inputs, list(source.text.labels), request.options
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
    manifest = Manifest(
        model=model,
        version=report.version,
        task=report.request.task,
        precision=result.precision if result else None,
        checkpoint=source.origin,
        opset=result.opset if result else {},
        ir_version=result.ir_version if result else None,
        tools=tool_versions(TOOLS),
        gates=result.gates if result else every,
        graph=result.graph if result else None,
        files=hash_files(folder),
        architecture=source.architecture if result else None,
    )
    manifest.write(folder)
    staging.publish(model, report.version, configs)
