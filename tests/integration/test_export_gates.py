"""What passes a gate is published and what fails it is not, with the numbers; nothing is ever written by halves."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import fuse, half, quantize
from export.__main__ import main
from export.errors import DataError, FusionError, GateError, LabelError, RepositoryError
from export.manifest import Manifest
from export.pipeline import ExportRequest, run
from export.repository import ModelRepository
from tests.integration import tiny_models

EVAL_TEXTS = 2050


@pytest.fixture(scope="module")
def eval_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_labelled(tmp_path_factory.mktemp("data") / "eval.csv", EVAL_TEXTS)


@pytest.fixture(scope="module")
def few_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_labelled(tmp_path_factory.mktemp("data") / "few.csv", 300)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


@pytest.fixture
def broken_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantisation that gets the weights wrong, as a library upgrade might."""
    right = quantize.quantize_weight

    def wrong(weight: Any) -> Any:
        values, scales = right(weight)
        return np.roll(values, 1, axis=0), scales

    monkeypatch.setattr(quantize, "quantize_weight", wrong)


def request(repository: Path, **changes: Any) -> ExportRequest:
    fields = {"name": "tiny", "output": repository, "model": str(tiny_models.shared("bert")), **changes}
    return ExportRequest(**fields)


def models(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir() if path.is_dir()) if repository.exists() else []


def test_gates_are_measured_printed_and_stored(
    repository: Path, eval_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All gates on labelled texts, through the command line; without calibration data some of the texts calibrate."""
    checkpoint = tiny_models.shared("bert")
    arguments = [
        "--model",
        str(checkpoint),
        "--name",
        "tiny",
        "--eval-data",
        str(eval_data),
        "--output",
        str(repository),
    ]
    assert main([*arguments, "--precision", "fp32", "int8", "--serve-precision", "int8"]) == 0

    out, err = capsys.readouterr()
    assert "checkpoint: answering the evaluation texts" in err
    assert out.rstrip().splitlines()[-1] == (
        f"Wrote version 1 of tiny, tiny_fp32, tiny_int8 to {repository} (tiny calls int8 on cpu, fp32 on gpu). "
        f"Next: python -m server --model-repository {repository}"
    )
    manifest = Manifest.read(repository / "tiny_int8/1")
    results = {result.gate: result for result in manifest.gates}
    assert all(result.passed and not result.allowed for result in manifest.gates)
    assert results["calibration"].detail["texts"] == EVAL_TEXTS - 2000
    assert results["eval-size"].value == 2000
    assert results["agreement"].value is not None
    assert results["agreement"].value >= 0.98
    assert results["accuracy"].limit == pytest.approx(0.005)
    assert results["accuracy"].detail["reference_accuracy"] > 0.9
    assert results["invariance"].value == 0
    assert results["invariance"].detail["largest_probability_change"] < 1e-3
    for gate in ("logits", "accuracy", "agreement", "invariance", "eval-size", "fusion", "calibration"):
        assert f"int8       {gate} " in out
    assert manifest.engine is not None
    assert {timing.engine for timing in manifest.engine.timings} == {"onnxruntime", "openvino"}
    assert [timing.engine for timing in manifest.engine.timings if timing.chosen] == [manifest.engine.name]
    assert manifest.engine.version == manifest.tools[manifest.engine.name]
    assert manifest.engine.layout == "packed"
    for line in (f"int8       {engine}" for engine in ("onnxruntime", "openvino")):
        assert line in out
    assert "on the CPU tiny calls int8" in out
    text = Manifest.read(repository / "tiny/1")
    assert {result.precision for result in text.gates} == {"fp32", "int8"}
    assert manifest.checkpoint.name == str(checkpoint)
    assert {"torch", "onnxruntime", "optimum"} <= set(manifest.tools)


@pytest.mark.usefixtures("broken_int8")
def test_a_precision_that_fails_is_not_published(
    repository: Path, eval_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(tiny_models.shared("bert")), "--name", "tiny", "--output", str(repository)]
    arguments += ["--eval-data", str(eval_data), "--precision", "fp32", "int8"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "export: int8 is not published: gate " in err.splitlines()[-1]
    assert "limit" in err.splitlines()[-1]
    assert "FAILED" in out
    assert models(repository) == ["tiny", "tiny_fp32"]
    config = (repository / "tiny/config.pbtxt").read_text(encoding="utf-8")
    assert 'string_value: "tiny_fp32"' in config


@pytest.mark.usefixtures("broken_int8")
def test_failed_gates_name_value_and_limit_and_can_be_allowed(repository: Path, few_texts: Path) -> None:
    """Without --allow nothing passes (300 texts are too few, too); with it the manifest says what was let through."""
    refused = run(request(repository, eval_data=few_texts, precisions=("int8",), int8_recipe="per-token"))
    assert models(repository) == []
    (failure,) = refused.failures
    assert isinstance(failure, GateError)
    failed = {result.gate: result for result in refused.precisions[0].gates if not result.passed}
    assert {"logits", "eval-size", "agreement", "accuracy"} <= set(failed)
    assert failed["eval-size"].value == 240
    assert failed["eval-size"].limit == 2000
    assert (failure.gate, failure.value, failure.limit) == ("logits", failed["logits"].value, 1.0)

    allow = frozenset({"logits", "eval-size", "agreement", "accuracy", "invariance"})
    changes = {"eval_data": few_texts, "precisions": ("int8",), "int8_recipe": "per-token", "allow": allow}
    assert run(request(repository, **changes)).failures == ()
    stored = {result.gate: result for result in Manifest.read(repository / "tiny_int8/1").gates}
    assert all(stored[gate].allowed and not stored[gate].passed for gate in failed)
    assert not stored["fusion"].allowed


@pytest.mark.usefixtures("broken_int8")
def test_nothing_is_written_when_the_precision_to_serve_fails(repository: Path) -> None:
    report = run(request(repository, precisions=("fp32", "int8"), serve_precision="int8"))
    assert report.served == {}
    assert report.published == ()
    assert models(repository) == []


def test_second_export_is_version_2(repository: Path) -> None:
    for version in (1, 2):
        assert run(request(repository, precisions=("fp32",))).version == version
    assert ModelRepository(repository).versions("tiny") == [1, 2]
    assert Manifest.read(repository / "tiny_fp32/2").version == 2


def test_dry_run_writes_nothing(repository: Path) -> None:
    report = run(request(repository, precisions=("fp32",), dry_run=True))
    assert report.published == ("fp32",)
    assert not repository.exists()
    assert list(repository.parent.iterdir()) == []


def test_labels_of_the_file_must_be_the_checkpoints(repository: Path, tmp_path: Path) -> None:
    other = tiny_models.write_labelled(tmp_path / "other.csv", 20, labels=("bad", "good"))
    with pytest.raises(LabelError, match=r"bad, good.*negative, positive"):
        run(request(repository, eval_data=other))
    assert models(repository) == []


def test_missing_columns_are_named(repository: Path, few_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="sentence"):
        run(request(repository, eval_data=few_texts, text_column="sentence"))
    arguments = ["--model", "no/such", "--name", "tiny", "--eval-data", str(few_texts), "--label-column", "stars"]
    assert main([*arguments, "--output", str(repository)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "stars" in err


def test_other_labels_than_the_served_ones_are_refused_early(repository: Path, tmp_path: Path) -> None:
    run(request(repository, precisions=("fp32",)))
    other = tiny_models.build("bert", tmp_path / "other", labels=("bad", "good"), steps=1)
    with pytest.raises(LabelError, match="--allow labels"):
        run(request(repository, model=str(other), precisions=("fp32",)))
    assert ModelRepository(repository).versions("tiny") == [1]
    report = run(request(repository, model=str(other), precisions=("fp32",), allow=frozenset({"labels"})))
    assert report.version == 2


def test_a_graph_that_does_not_fuse_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfused(source: Path, target: Path, _: object) -> dict[str, int]:
        shutil.copyfile(source, target)
        return dict.fromkeys(fuse.FUSED_OPERATORS, 0)

    monkeypatch.setattr(fuse, "fuse", unfused)
    with pytest.raises(FusionError, match="0 Attention and 0 SkipLayerNormalization"):
        run(request(repository, precisions=("fp32",)))
    assert models(repository) == []
    report = run(request(repository, precisions=("fp32", "int8"), allow=frozenset({"fusion"})))
    assert report.published == ("fp32", "int8")
    fusion = report.precisions[0].gates[0]
    assert (fusion.gate, fusion.value, fusion.allowed) == ("fusion", 0.0, True)


def test_weights_beyond_fp16_are_refused(repository: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    checkpoint = shutil.copytree(tiny_models.shared("bert"), tmp_path / "large")
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    model.bert.encoder.layer[0].output.dense.bias.data[3] = 70_000.0
    model.save_pretrained(checkpoint)
    report = run(request(repository, model=str(checkpoint), precisions=("fp32", "fp16")))
    (failure,) = report.failures
    assert "7e+04" in str(failure)
    assert "65504" in str(failure)
    assert report.published == ("fp32",)


def test_full_disk_is_one_clear_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(half, "convert", full)
    with pytest.raises(RepositoryError):
        run(request(repository, precisions=("fp32", "fp16")))
    assert models(repository) == []
    arguments = ["--model", str(tiny_models.shared("bert")), "--name", "tiny", "--output", str(repository)]
    assert main([*arguments, "--precision", "fp16"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("export: ")
    assert "space" in last.lower() or "full" in last.lower()
    assert models(repository) == []


def test_output_that_cannot_be_a_folder_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    arguments = ["--model", str(tiny_models.shared("bert")), "--name", "tiny", "--precision", "fp32"]
    assert main([*arguments, "--output", str(tmp_path / "file" / "repository")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err.splitlines()[-1]
