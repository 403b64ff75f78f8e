"""The models of the benchmarks: the demo, and BERT-base with random weights, exported by this project's own export.

Random weights compute as fast as trained ones and answer nonsense, so accuracy is no subject there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
# What an export depends on beside its arguments: a model that another export made is made anew.
_SOURCES = ("export/*.py", "client/bert_triton_client/contract.py", "constraints.txt")
_LAST_LINES = 4


class ModelError(RuntimeError):
    """A model could not be exported; the message ends with what export said."""


@dataclass(frozen=True)
class Model:
    """A checkpoint to compare on: a row of `MODELS`.

    Attributes:
        name: what it is called on command lines.
        text_model: its name in the model repositories.
        description: for reports.
        trained: whether its answers mean anything.
        checkpoint: its folder; makes it if need be.
        flags: of export.
    """

    name: str
    text_model: str
    description: str
    trained: bool
    checkpoint: Callable[[], Path]
    flags: tuple[str, ...]


def exported(
    model: str, precisions: Sequence[str], *, engine: str = "auto", packing: bool = True, serve: str | None = None
) -> Path:
    """A model repository; built once, then found again until export itself changes.

    The cache of answers is off: a benchmark of the path through the model must not skip it.

    Args:
        model: a key of `MODELS`.
        precisions: to export.
        engine: as export's flag.
        packing: False leaves the padding in the graph.
        serve: the precision that the text model calls; None = export chooses.

    Raises:
        ModelError: a precision was not published (where export chooses, none was).
    """
    row = MODELS[model]
    engine_flags = ["--engine", engine, *([] if packing else ["--no-packing"])]
    arguments = _arguments(row, precisions, engine_flags, serve)
    parts = [*precisions, engine, "packed" if packing else "padded", *([f"serves_{serve}"] if serve else [])]
    folder = BENCH / "models" / model / "-".join(parts)
    wanted = None if serve is None and engine == "auto" else precisions
    with _lock():
        checkpoint = row.checkpoint()
        digest = _digest(arguments)
        stamp = folder / ".sha256"
        if not (stamp.exists() and stamp.read_text() == digest):
            partial = folder.with_suffix(".partial")  # holds the folder where export prepares a version, too
            shutil.rmtree(partial, ignore_errors=True)
            made = partial / "repository"
            print(f"  exporting {row.description}: {', '.join(parts)}", file=sys.stderr, flush=True)
            command = ["--model", str(checkpoint), "--name", row.text_model, *arguments, "--output", str(made)]
            _export(command, made, row.text_model, wanted)
            (made / stamp.name).write_text(digest)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
            shutil.rmtree(partial)
    return folder


def export_again(model: str, checkpoint: Path, repository: Path, precision: str) -> None:
    """The next version of a model in a repository of `exported`, from another checkpoint, on the same engine.

    Raises:
        ModelError: it was not published.
    """
    row = MODELS[model]
    engine_flags = ["--engine", read_config(repository, f"{row.text_model}_{precision}").backend]
    command = ["--model", str(checkpoint), "--name", row.text_model]
    command += _arguments(row, (precision,), engine_flags, precision)
    before = newest_version(repository, row.text_model)
    _export([*command, "--output", str(repository)], repository, row.text_model, (precision,))
    if newest_version(repository, row.text_model) == before:
        raise ModelError(f"export published no version of {row.text_model} after {before.name} in {repository}")


def bert_base_repository(precision: str) -> Path:
    """A model repository with text model `NAME` over BERT-base in ``precision``, its cache of answers off."""
    return exported("bert-base", (precision,), serve=precision)


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


def newest_version(repository: Path, name: str) -> Path:
    """The folder of a model's newest version."""
    versions = [path for path in (repository / name).iterdir() if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name))


def _arguments(row: Model, precisions: Sequence[str], engine_flags: Sequence[str], serve: str | None) -> list[str]:
    arguments = ["--task", "text-classification", "--cache-size", "0", "--precision", *precisions, *row.flags]
    return [*arguments, *engine_flags, *(["--serve-precision", serve] if serve else [])]


def _export(arguments: Sequence[str], repository: Path, text_model: str, wanted: Sequence[str] | None) -> None:
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        command = [sys.executable, "-m", "export", *arguments]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
        log.seek(0)
        lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    # Exit status 1 also means that some precision was not published, which is none of our business if we want another.
    missing = [name for name in wanted or () if not (repository / f"{text_model}_{name}").is_dir()]
    if missing or not (repository / text_model).is_dir():
        raise ModelError(f"export ended with {done.returncode}: " + " / ".join(lines[-_LAST_LINES:]))


def _digest(arguments: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(arguments).encode())
    for pattern in _SOURCES:
        for path in sorted(Path().glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One process at a time builds under `BENCH`."""
    BENCH.mkdir(parents=True, exist_ok=True)
    with (BENCH / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _demo_checkpoint() -> Path:
    return DEMO / "checkpoint"


def _bert_base_checkpoint() -> Path:
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


_CALIBRATION = ("--calibration-data", str(DEMO / "validation.csv"))
MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "demo",
            DEMO_MODEL,
            "the demo model (BERT, 6 layers of 384, trained)",
            True,
            _demo_checkpoint,
            (*_CALIBRATION, "--eval-data", str(DEMO / "test.csv")),
        ),
        Model(
            "bert-base",
            NAME,
            "BERT-base shapes (12 layers of 768, random weights)",
            False,
            _bert_base_checkpoint,
            # Untrained logits lie so close together that quantisation noise decides labels.
            (*_CALIBRATION, "--int8-recipe", "smoothed", "--allow", "logits", "--allow", "invariance"),
        ),
    )
}
