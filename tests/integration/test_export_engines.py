"""Which engine serves what: tried side by side, judged on the engine itself, and written into the configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_triton_client.contract import ONNXRUNTIME, OPENVINO
from export import contenders, engines
from export.errors import EngineError
from export.examination import Examination
from export.manifest import GateResult, Manifest
from export.pipeline import ExportRequest, run
from export.precisions import Variant
from export.progress import Steps
from export.report import render
from export.serving import ServingOptions
from export.timing import Timing
from export.triton_config import parse
from tests.integration import tiny_models


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_labelled(tmp_path_factory.mktemp("data") / "calibration.csv", 60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


def request(repository: Path, **changes: Any) -> ExportRequest:
    fields = {"name": "tiny", "output": repository, "model": str(tiny_models.shared("bert")), **changes}
    return ExportRequest(**fields)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO were twice as fast as ONNX Runtime, and int8 ten times as fast as anything else."""

    def race(variants: Mapping[Variant, object], _: object, *, calls: int) -> dict[Variant, Timing]:
        assert calls == ServingOptions().instances_on("cpu")
        found = {}
        for variant in variants:
            speed = 100.0 * (2 if variant.engine == OPENVINO else 1) * (10 if variant.precision == "int8" else 1)
            found[variant] = Timing(speed, (speed - 5, speed + 5), 1.0, 3)
        return found

    monkeypatch.setattr(contenders, "race", race)


def config(repository: Path, model: str, file: str = "config.pbtxt") -> Any:
    return parse((repository / model / file).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("speeds")
def test_the_faster_engine_serves_and_a_failing_one_gives_way(
    repository: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports into one repository: in the second OpenVINO's answers fail a gate."""
    asked = request(repository, precisions=("fp32", "int8"), calibration_data=calibration, int8_recipe="static")
    report = run(asked)
    assert report.failures == ()
    assert [tried.variant.engine for tried in report.precisions[1].tried] == [OPENVINO, ONNXRUNTIME]
    assert report.served == {"cpu": "int8", "gpu": "fp32"}
    assert config(repository, "tiny_int8").backend == OPENVINO
    assert config(repository, "tiny_int8").max_batch_size == 0
    assert config(repository, "tiny_int8", "configs/gpu.pbtxt").backend == ONNXRUNTIME
    assert config(repository, "tiny_fp32").backend == ONNXRUNTIME
    assert config(repository, "tiny").parameters["packed"].string_value == "true"
    manifest = Manifest.read(repository / "tiny_int8/1")
    assert manifest.engine is not None
    assert (manifest.engine.name, manifest.engine.layout) == (OPENVINO, "packed")
    assert [(timing.engine, timing.chosen) for timing in manifest.engine.timings] == [
        (OPENVINO, True),
        (ONNXRUNTIME, False),
    ]
    out = render(report)
    assert "no: slower" in out
    assert "on the CPU tiny calls int8, served by openvino, the fastest of those published" in out

    judge = contenders.examine

    def examine(variant: Variant, examination: Examination, steps: Steps) -> list[GateResult]:
        if variant.engine == OPENVINO:
            return [GateResult("logits", variant.precision, 3.0, 1.0, passed=False, detail={"worst": "batch 1"})]
        return judge(variant, examination, steps)

    monkeypatch.setattr(contenders, "examine", examine)
    report = run(asked)
    assert report.failures == ()
    assert report.precisions[1].engine == ONNXRUNTIME
    assert any(note.startswith("openvino was faster, but int8 is not published: gate logits") for note in report.notes)
    assert "no: failed" in render(report)
    live = config(repository, "tiny_int8")
    # Version 1 was laid out for the other engine, so it is not served any more.
    assert (live.backend, live.version_policy.latest.num_versions) == (ONNXRUNTIME, 1)


def test_bf16_is_judged_in_bf16(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO computes in BF16 on any CPU with AVX-512 when it is told to, if slowly; elsewhere it stays FP32."""
    monkeypatch.setattr(engines, "supports_bf16", lambda: True)
    report = run(request(repository, precisions=("fp32", "bf16")))
    assert report.published == ("fp32", "bf16")
    live = config(repository, "tiny_bf16")
    assert (live.backend, live.parameters["HINT_BF16"].string_value) == (OPENVINO, "YES")
    exact, rounded = (
        next(gate.value for gate in result.gates if gate.gate == "logits") for result in report.precisions
    )
    assert exact is not None
    assert rounded is not None
    assert exact < 1e-4
    bf16 = engines.classifier(OPENVINO, repository / "tiny_bf16/1/model.onnx", "bf16", 1)
    fp32 = engines.classifier(OPENVINO, repository / "tiny_bf16/1/model.onnx", "fp32", 1)
    ids = np.array([[2, 7, 9, 3]], dtype=np.int64)
    tensors = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    computes = bool((bf16(tensors) != fp32(tensors)).any())
    assert (rounded > 1e-4) == computes


def test_a_cpu_without_bf16_and_graphs_without_packing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "supports_bf16", lambda: False)
    report = run(request(repository, precisions=("fp32", "bf16"), packing=False))
    (failure,) = report.failures
    assert isinstance(failure, EngineError)
    assert "leave bf16 out" in str(failure)
    assert report.published == ("fp32",)
    manifest = Manifest.read(repository / "tiny_fp32/1")
    assert manifest.engine is not None
    assert manifest.engine.layout == "padded"
    assert config(repository, "tiny").parameters["packed"].string_value == "false"
    assert "bf16       -" in render(report)
