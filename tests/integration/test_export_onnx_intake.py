"""``--onnx``: an ONNX file that exists already is checked, renamed where needed, and exported like a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from export import onnx as graphs
from export.checkpoint import load
from export.errors import CheckpointError, LabelError, UsageError
from export.manifest import Manifest, ModelArchitecture, read_labels, sha256_file
from export.pipeline import ExportRequest, run
from tests.integration import tiny_models
from tests.integration.tiny_models import LAYERS


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    graphs.export(load(str(tiny_models.shared("bert"))), path)
    return path


def request(output: Path, path: Path, **changes: Any) -> ExportRequest:
    fields = {"tokenizer": str(tiny_models.shared("bert")), "precisions": ("fp32", "int8"), **changes}
    return ExportRequest(name="tiny", output=output, onnx=path, **fields)


def changed(raw: Path, target: Path, change: Any) -> Path:
    model = onnx.load(raw)
    change(model)
    onnx.save(model, target)
    return target


def test_taken_in_with_its_tokenizer(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "model_repository"
    report = run(request(output, raw))
    assert report.published == ("fp32", "int8")
    manifest = Manifest.read(output / "tiny_fp32/1")
    assert manifest.checkpoint.name == str(raw)
    assert manifest.checkpoint.sha256 == sha256_file(raw)
    assert manifest.architecture == ModelArchitecture("bert", LAYERS, tiny_models.HIDDEN_SIZE, tiny_models.HEADS)
    assert manifest.graph is not None
    assert manifest.graph.fused["Attention"] == LAYERS


def test_checked_against_the_checkpoint_it_was_made_from(raw: Path, tmp_path: Path) -> None:
    """The same graph beside another checkpoint of the same shape fails the gate."""
    model = str(tiny_models.shared("bert"))
    assert run(request(tmp_path / "a", raw, model=model, precisions=("fp32",))).failures == ()
    other = tiny_models.build("bert", tmp_path / "other", steps=1, seed=3)
    (failure,) = run(request(tmp_path / "b", raw, model=str(other), precisions=("fp32",))).failures
    assert "gate logits" in str(failure)


def test_other_names_are_mapped(raw: Path, tmp_path: Path) -> None:
    def rename(model: Any) -> None:
        for old, new in (("input_ids", "input_ids:0"), ("token_type_ids", "segment_ids"), ("logits", "output")):
            graphs._rename(model, old, new)

    path = changed(raw, tmp_path / "renamed.onnx", rename)
    given = graphs.read(path, 2)
    assert given.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert sorted(value.name for value in given.model.graph.input) == sorted(given.inputs)
    assert [value.name for value in given.model.graph.output] == ["logits"]
    onnx.checker.check_model(given.model)


def test_labels_may_be_named(raw: Path, tmp_path: Path) -> None:
    tokenizer = Path(shutil.copytree(tiny_models.shared("bert"), tmp_path / "tokenizer"))
    (tokenizer / "config.json").unlink()
    with pytest.raises(LabelError, match="--labels"):
        run(request(tmp_path / "out", raw, tokenizer=str(tokenizer)))
    changes = {"tokenizer": str(tokenizer), "labels": ("down", "up"), "precisions": ("fp32",)}
    assert run(request(tmp_path / "out", raw, **changes)).failures == ()
    assert read_labels(tmp_path / "out/tiny/1") == ["down", "up"]


def test_needs_a_tokenizer(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tokenizer"):
        run(request(tmp_path, raw, tokenizer=None))


def _rename_input(model: Any) -> None:
    graphs._rename(model, "attention_mask", "lengths")


def _fix_batch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _other_type(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32


def _second_output(model: Any) -> None:
    name = model.graph.node[0].output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]))


def _newer_opset(model: Any) -> None:
    model.opset_import[0].version = graphs.MAX_OPSET + 1


def _older_opset(model: Any) -> None:
    model.opset_import[0].version = 11


def _newer_ir(model: Any) -> None:
    model.ir_version = graphs.MAX_IR_VERSION + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_input, "takes input_ids, lengths, token_type_ids"),
        (_fix_batch, "both free"),
        (_other_type, "INT32"),
        (_second_output, "expected logits alone"),
        (_newer_opset, "opset 22"),
        (_older_opset, "opset 11"),
        (_newer_ir, "IR version 11"),
    ],
)
def test_unfit_graphs_are_refused(raw: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        graphs.read(changed(raw, tmp_path / "changed.onnx", change), 2)


def test_number_of_labels_must_match(raw: Path) -> None:
    with pytest.raises(CheckpointError, match="2 logits, but there are names for 3 labels"):
        graphs.read(raw, 3)


def test_quantized_graph_is_refused(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "model_repository"
    run(request(output, raw, precisions=("int8",)))
    with pytest.raises(CheckpointError, match="quantised already"):
        graphs.read(output / "tiny_int8/1/model.onnx", 2)


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_damaged_file(raw: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(raw.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"damaged\.onnx"):
        graphs.read(path, 2)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no ONNX file"):
        graphs.read(tmp_path / "missing.onnx", 2)
