"""Every architecture in every precision: the graphs, and what they answer beside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer

from bert_triton_client.contract import LABELS_FILE, MODEL_FILE, TOKENIZER_FILE
from export.gates import LIMITS
from export.manifest import Manifest, read_labels, verify
from export.onnx import MAX_IR_VERSION, MAX_OPSET
from export.pipeline import ExportReport, ExportRequest, run
from tests.integration import tiny_models
from tests.integration.tiny_models import ARCHITECTURES, LABELS, LAYERS, MAX_LENGTH

PRECISIONS = ("fp32", "fp16", "int8")
# Per layer the attention's projections, its output and both feed-forward products; ELECTRA also projects embeddings.
QUANTIZED = {kind: 4 * LAYERS + (kind == "electra") for kind in ARCHITECTURES}


@dataclass(frozen=True)
class Exported:
    kind: str
    checkpoint: Path
    repository: Path
    report: ExportReport

    def folder(self, precision: str | None) -> Path:
        return self.repository / (f"tiny_{precision}" if precision else "tiny") / "1"

    def graph(self, precision: str) -> Any:
        return onnx.load(self.folder(precision) / MODEL_FILE)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = tiny_models.shared(request.param)
    calibration = tiny_models.write_labelled(folder / "calibration.csv", 100)
    repository = folder / "model_repository"
    asked = ExportRequest(
        name="tiny",
        output=repository,
        model=str(checkpoint),
        precisions=PRECISIONS,
        calibration_data=calibration,
        # Otherwise it is the fastest, which is no fact about a model of this size.
        engine="onnxruntime",
        serve_precision="int8",
    )
    report = run(asked)
    return Exported(request.param, checkpoint, repository, report)


@pytest.fixture(scope="module")
def checkpoint_model(exported: Exported) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(exported.checkpoint).eval()


def quantized_products(model: Any) -> int:
    """How many MatMul multiply what was rounded to 8 bits on both sides."""
    rounded = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(node.op_type == "MatMul" and set(node.input) <= rounded for node in model.graph.node)


def test_every_precision_is_published_whole(exported: Exported) -> None:
    assert exported.report.failures == ()
    assert exported.report.published == PRECISIONS
    assert exported.report.served == {"cpu": "int8", "gpu": "fp16"}
    for precision in (*PRECISIONS, None):
        assert verify(exported.folder(precision)).version == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fused_and_quantized_nodes_are_counted(exported: Exported, precision: str) -> None:
    nodes = [node.op_type for node in exported.graph(precision).graph.node]
    attention = sum(nodes.count(name) for name in ("Attention", "QAttention", "MultiHeadAttention"))
    # INT8 takes the embeddings apart, to store them in 8 bits.
    embeddings = 0 if precision == "int8" else ARCHITECTURES[exported.kind].embed_layer_norms

    assert attention == LAYERS
    # Packed for ONNX Runtime, those of the layers are Add and LayerNormalization again, which are faster there.
    skip, plain = nodes.count("SkipLayerNormalization"), nodes.count("LayerNormalization")
    assert skip == (2 * LAYERS if precision == "fp16" else 0)
    assert skip + plain == 2 * LAYERS + (embeddings == 0)
    assert nodes.count("BiasGelu") == LAYERS
    assert nodes.count("EmbedLayerNormalization") == embeddings
    products = nodes.count("MatMulIntegerToFloat") + quantized_products(exported.graph(precision))
    assert products == (QUANTIZED[exported.kind] if precision == "int8" else 0)

    graph = Manifest.read(exported.folder(precision)).graph
    assert graph is not None
    assert graph.fused == {
        "Attention": LAYERS,
        "SkipLayerNormalization": skip,
        "BiasGelu": LAYERS,
        "EmbedLayerNormalization": embeddings,
    }
    assert graph.quantized_matmuls == products
    assert graph.size_bytes == (exported.folder(precision) / MODEL_FILE).stat().st_size


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_are_the_checkpoints(exported: Exported, checkpoint_model: Any, precision: str) -> None:
    """On shapes that the gates do not use, padding on the left included: a mask is a mask, not a length."""
    import torch

    session = onnxruntime.InferenceSession(exported.folder(precision) / MODEL_FILE)
    generator = np.random.default_rng(7)
    worst = 0.0
    for batch_size, length in ((1, 1), (2, 9), (4, 50), (2, MAX_LENGTH)):
        ids = generator.integers(5, 90, size=(batch_size, length))
        mask = np.ones_like(ids)
        mask[1::2, : length // 3] = 0
        mask[2::2, length // 2 :] = 0
        ids[mask == 0] = checkpoint_model.config.pad_token_id
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: feed[name] for name in ARCHITECTURES[exported.kind].inputs}
        with torch.inference_mode():
            expected = checkpoint_model(
                **{name: torch.from_numpy(value) for name, value in feed.items()}
            ).logits.numpy()
        worst = max(worst, float(np.abs(session.run(["logits"], feed)[0] - expected).max()))
    assert worst <= LIMITS[precision].logits


@pytest.mark.parametrize("precision", PRECISIONS)
def test_signature_is_the_contract(exported: Exported, precision: str) -> None:
    session = onnxruntime.InferenceSession(exported.folder(precision) / MODEL_FILE)
    inputs = {value.name: value.type for value in session.get_inputs()}
    assert inputs == dict.fromkeys(ARCHITECTURES[exported.kind].inputs, "tensor(int64)")
    assert [(value.name, value.type) for value in session.get_outputs()] == [("logits", "tensor(float)")]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graph_is_one_that_onnx_runtime_1_19_loads(exported: Exported, precision: str) -> None:
    """The limits of the ONNX Runtime in NVIDIA's container 24.10. To try it for real, in another virtual environment:
    `pip install onnxruntime==1.19.2 "numpy<2"`, then load the exported `model.onnx` files there."""
    model = exported.graph(precision)
    domains = {entry.domain: entry.version for entry in model.opset_import}
    assert set(domains) == {"", "com.microsoft"}
    assert domains[""] <= MAX_OPSET
    assert domains["com.microsoft"] == 1
    assert model.ir_version <= MAX_IR_VERSION
    manifest = Manifest.read(exported.folder(precision))
    assert (manifest.opset, manifest.ir_version) == (domains, model.ir_version)


def test_int8_weights_are_signed_and_per_channel(exported: Exported) -> None:
    """No matrix of the encoder and no word embedding stays FP32; every column (or row of embeddings) has its scale."""
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in exported.graph("int8").graph.initializer}
    quantized = {name: value for name, value in weights.items() if value.dtype == np.int8 and value.ndim == 2}
    embeddings = [name for name in quantized if "word_embeddings" in name]
    assert len(quantized) == QUANTIZED[exported.kind] + len(embeddings)
    assert len(embeddings) == 1
    for name, value in quantized.items():
        if name not in embeddings:
            assert weights[name.replace("_quantized", "_scale")].shape == (value.shape[1],)
            assert not weights[name.replace("_quantized", "_zero_point")].any()
    assert not any(value.dtype == np.uint8 and value.ndim == 2 for value in weights.values())
    left = [name for name, value in weights.items() if value.dtype == np.float32 and value.size > 64 * 16]
    assert all(
        "position" in name or "classifier" in name or "pooler" in name or name.endswith("/scale") for name in left
    )


def test_fp16_keeps_layer_norm_in_fp32(exported: Exported) -> None:
    model = exported.graph("fp16")
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    for node in model.graph.node:
        weights = [types[name] for name in node.input if name in types]
        if "LayerNormalization" in node.op_type:
            assert set(weights) == {onnx.TensorProto.FLOAT}
        elif node.op_type in ("MatMul", "Attention", "BiasGelu"):
            assert onnx.TensorProto.FLOAT not in weights
            assert onnx.TensorProto.FLOAT16 in weights


def test_text_model_holds_tokenizer_and_labels(exported: Exported) -> None:
    from transformers import AutoTokenizer

    folder = exported.folder(None)
    assert {path.name for path in folder.iterdir()} == {TOKENIZER_FILE, LABELS_FILE, "manifest.json"}
    assert read_labels(folder) == list(LABELS)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    reference = AutoTokenizer.from_pretrained(exported.checkpoint)
    for text in ("a great film", "Unknown Wörds, 🙂 and   spaces", "dull " * 200):
        assert tokenizer.encode(text).ids == reference(text, verbose=False)["input_ids"]


def test_without_labelled_texts_their_gates_are_not_run(exported: Exported) -> None:
    for precision in exported.report.precisions:
        results = {result.gate: result for result in precision.gates}
        assert {"logits", "invariance", "fusion"} <= set(results)
        for gate in ("accuracy", "agreement", "eval-size"):
            assert results[gate].value is None
            assert results[gate].detail == {"not_run": "no --eval-data"}
    assert any("were not run" in note for note in exported.report.notes)


def test_int8_recipe_is_chosen_on_the_calibration_texts(exported: Exported) -> None:
    choice = next(result for result in exported.report.precisions[2].gates if result.gate == "calibration")
    tried = {candidate["recipe"]: candidate["agreement"] for candidate in choice.detail["candidates"]}
    assert choice.detail["texts"] == 100
    assert "dynamic" not in tried
    assert len(tried) == 4
    assert choice.value == tried[choice.detail["recipe"]]
    assert choice.value >= max(tried.values()) - 0.05
