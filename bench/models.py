"""The models of the benchmarks: BERT-base with random weights, exported by this project's own export, and the demo.

Random weights compute as fast as trained ones and answer nonsense, so accuracy is no subject here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

DEMO = Path("build/demo")
DEMO_REPOSITORY = Path("model_repository")
DEMO_MODEL = "sentiment"
DEMO_TENSOR_MODEL = f"{DEMO_MODEL}_int8"
BENCH = Path("build/bench")
NAME = "bert_base"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def bert_base_repository(precision: str) -> Path:
    """A model repository with text model `NAME` over BERT-base in ``precision``; built once, then found again.

    The cache of answers is off: a benchmark of the path through the model must not skip it.
    """
    repository = BENCH / f"repository_{precision}"
    if list(repository.glob(f"{NAME}/[0-9]*/manifest.json")):
        return repository
    command = [sys.executable, "-m", "export", "--model", str(_checkpoint()), "--name", NAME]
    command += ["--task", "text-classification", "--precision", precision, "--cache-size", "0"]
    command += ["--calibration-data", str(DEMO / "validation.csv"), "--int8-recipe", "smoothed"]
    # Untrained logits lie so close together that quantisation noise decides labels.
    command += ["--allow", "logits", "--allow", "invariance", "--output", str(repository)]
    subprocess.run(command, check=True)
    return repository


def demo_without_cache(folder: Path) -> Path:
    """The demo's text model and its INT8 model in ``folder``, with nothing that answers a text from memory."""
    for name in (DEMO_MODEL, DEMO_TENSOR_MODEL):
        shutil.copytree(DEMO_REPOSITORY / name, folder / name)
    config = read_config(folder, DEMO_MODEL)
    config.parameters["cache_size"].string_value = "0"
    write_config(folder, DEMO_MODEL, config)
    return folder


def read_config(repository: Path, name: str) -> ModelConfig:
    """The config of a model."""
    return text_format.Parse((repository / name / "config.pbtxt").read_text(), ModelConfig())


def write_config(repository: Path, name: str, config: ModelConfig) -> None:
    """Writes it back."""
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def _checkpoint() -> Path:
    folder = BENCH / "checkpoint"
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    partial = BENCH / "checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)
    config = BertConfig(num_labels=2, id2label={0: "negative", 1: "positive"})
    BertForSequenceClassification(config).save_pretrained(partial)
    for name in TOKENIZER_FILES:
        if (DEMO / "checkpoint" / name).exists():
            shutil.copy(DEMO / "checkpoint" / name, partial / name)
    partial.rename(folder)
    return folder
