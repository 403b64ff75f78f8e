"""Writes the kit's repository around a padded ONNX model."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.models import TOKENIZER_FILES

MODEL = "transformer_onnx_model"
TOKENIZER = "transformer_onnx_tokenize"
ENSEMBLE = "transformer_onnx_inference"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


def write(folder: Path, onnx_model: Path, checkpoint: Path, labels: int, max_batch_size: int) -> None:
    """The three models.

    Args:
        folder: the repository.
        onnx_model: ``INPUTS`` int64[batch_size, sequence_length] -> ``OUTPUT`` float32[batch_size, labels].
        checkpoint: has the tokenizer's files.
        labels: number of labels.
        max_batch_size: 0 as the kit generates it, without batching; else with dynamic batching of the ONNX model.
    """
    for name in (MODEL, TOKENIZER, ENSEMBLE):
        (folder / name / "1").mkdir(parents=True)
    (folder / MODEL / "1/model.onnx").symlink_to(onnx_model.resolve())
    shutil.copy(Path(__file__).with_name("tokenizer_model.py"), folder / TOKENIZER / "1/model.py")
    for name in (*TOKENIZER_FILES, "config.json"):
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, folder / TOKENIZER / "1" / name)
    batch = "" if max_batch_size else "-1, "  # with a maximum, the batch dimension is implied
    text = _tensors("input", ("TEXT",), "STRING", "1" if max_batch_size else "-1")
    tokens = f"{batch}-1"
    logits = _tensors("output", (OUTPUT,), "FP32", f"{batch}{labels}")
    one_on_the_cpu = "instance_group [{ count: 1 kind: KIND_CPU }]"
    batching = "dynamic_batching { }" if max_batch_size else ""
    configs = {
        TOKENIZER: ('backend: "python"', text, _tensors("output", INPUTS, "INT64", tokens), one_on_the_cpu),
        MODEL: ('backend: "onnxruntime"', _tensors("input", INPUTS, "INT64", tokens), logits, one_on_the_cpu, batching),
        ENSEMBLE: ('platform: "ensemble"', text, logits, _scheduling()),
    }
    for name, parts in configs.items():
        lines = [f'name: "{name}"', f"max_batch_size: {max_batch_size}", *parts]
        (folder / name / "config.pbtxt").write_text("\n".join(lines) + "\n")


def _tensors(side: str, names: tuple[str, ...], data_type: str, dims: str) -> str:
    each = ", ".join(f'{{ name: "{name}" data_type: TYPE_{data_type} dims: [{dims}] }}' for name in names)
    return f"{side} [{each}]"


def _scheduling() -> str:
    steps = ((TOKENIZER, ("TEXT",), INPUTS), (MODEL, INPUTS, (OUTPUT,)))
    return "ensemble_scheduling { step [" + ", ".join(_step(*step) for step in steps) + "] }"


def _step(model: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    maps = [f'input_map {{ key: "{name}" value: "{name}" }}' for name in inputs]
    maps += [f'output_map {{ key: "{name}" value: "{name}" }}' for name in outputs]
    return f'{{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'
