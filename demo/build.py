"""`python -m demo build`: a checkpoint folder and the tables of labelled sentences beside it.

output/  checkpoint/   base + committed adapter, merged: a plain Hugging Face folder with its tokenizer and model card
         train.csv  validation.csv  test.csv
         demo.json     what it was built from, so that a second build knows that there is nothing to do
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from demo import sentences, split, tables
from demo.base import BASE_NAME, base_folder
from demo.errors import DemoError
from demo.sentences import DEFAULT_CACHE
from finetune.card import CARD_FILE, METRICS_FILE, licence, scores_line, write_card
from finetune.errors import FinetuneError
from finetune.output import disk_errors, whole_folder

ADAPTER_FOLDER = Path(__file__).with_name("adapter")
CHECKPOINT = "checkpoint"
RECORD_FILE = "demo.json"
DEFAULT_OUTPUT = Path("build/demo")

_SOURCES = f"""
Sentences: movie reviews rated by people, from C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text" (ICWSM 2014), in the source archive of {sentences.REQUIREMENT} (MIT); those
rated within {sentences.UNDECIDED_RATING} of neutral are left out.
"""


def build(output: Path, cache: Path, say: Callable[[str], None]) -> bool:
    """Builds the demo in ``output``, whole or not at all; returns False if it was there already.

    Args:
        cache: folder that keeps the downloaded archive of sentences.
        say: told one line per step.

    Raises:
        DemoError: the base model, the adapter or the sentences are missing.
        FinetuneError: they do not fit together, or ``output`` cannot be written.
    """
    record = _record()
    if _is_built(output, record):
        return False
    if output.exists() and not (output / RECORD_FILE).is_file():
        raise DemoError(f"{output} exists and is no demo: choose another --output, or remove it")
    with whole_folder(output, overwrite=True) as folder:
        say(f"demo 1/3: sentences ({sentences.ARCHIVE}, kept in {cache})")
        with disk_errors(output):
            counts = tables.write(folder, cache)
        say("demo 2/3: loading torch, transformers and the base model")
        model, tokenizer = _merged()
        say(f"demo 3/3: writing {output}")
        with disk_errors(output):
            checkpoint = folder / CHECKPOINT
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
            _write_card(checkpoint)
            record["sentences"] = counts
            (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return True


def adapter_metrics() -> dict[str, Any]:
    """What the committed adapter's training measured.

    Raises:
        DemoError: the adapter is not there.
    """
    path = ADAPTER_FOLDER / METRICS_FILE
    if not path.is_file():
        raise DemoError(f"no adapter in {ADAPTER_FOLDER}: restore it from git, or train it: python -m demo.train")
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def _merged() -> tuple[Any, Any]:
    from finetune import adapter
    from finetune import base as bases

    base = bases.load(str(base_folder()), sentences.LABELS, seed=0)
    return adapter.merge(base.model, ADAPTER_FOLDER), base.tokenizer


def _write_card(checkpoint: Path) -> None:
    metrics = adapter_metrics()
    body = (
        f"{BASE_NAME} with the LoRA adapter of `demo/adapter/` merged in (made by `{metrics['command']}` on "
        f"{metrics['date']}).\n\nHeld-out test sentences: {scores_line(metrics['test'])}.\n{_SOURCES}"
    )
    write_card(
        checkpoint,
        title="Demo: sentiment of movie reviews",
        base_name=BASE_NAME,
        base_licence=_base_licence(),
        body=body,
    )


def _base_licence() -> str:
    found = licence(str(base_folder()))
    if found is None:
        raise DemoError(f"{base_folder() / CARD_FILE} states no licence: expected the one of {BASE_NAME}")
    return found


# --- What is there already ------------------------------------------------------------------------


def _record() -> dict[str, Any]:
    """The checksums of everything that a build depends on."""
    adapter_metrics()
    sources = {
        "base": base_folder() / "model.safetensors",
        "adapter": ADAPTER_FOLDER / "adapter_model.safetensors",
        "adapter_config": ADAPTER_FOLDER / "adapter_config.json",
        "metrics": ADAPTER_FOLDER / METRICS_FILE,
        "split": split.SPLIT_FILE,
    }
    try:
        checksums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}
    except FileNotFoundError as exc:
        raise DemoError(f"{exc.filename} is missing: restore it from git") from exc
    return {"format": 1, "archive": sentences.ARCHIVE_SHA256, **checksums}


def _is_built(output: Path, record: dict[str, Any]) -> bool:
    path = output / RECORD_FILE
    if not path.is_file():
        return False
    try:
        built = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    files = [
        *(f"{part}.csv" for part in tables.PARTS),
        f"{CHECKPOINT}/model.safetensors",
        f"{CHECKPOINT}/tokenizer.json",
    ]
    return record.items() <= built.items() and all((output / name).is_file() for name in files)


# --- The command ----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo build",
        description="Build the demo: a fine-tuned BERT (base + committed adapter) and labelled sentences. "
        "A second run does nothing.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to make (default: %(default)s)")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help="folder that keeps the download (default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    try:
        built = build(arguments.output, arguments.cache, lambda line: _write(sys.stderr, line))
        accuracy = scores_line(adapter_metrics()["test"])
    except (DemoError, FinetuneError) as exc:
        if os.environ.get("BERT_TRITON_DEBUG") == "1":
            raise
        _write(sys.stderr, f"error: {exc}")
        return 1
    checkpoint = arguments.output / CHECKPOINT
    done = f"wrote {checkpoint} in {time.monotonic() - started:.0f} s" if built else f"{checkpoint} is up to date"
    _write(sys.stdout, f"{done} ({accuracy}, held out)")
    _write(
        sys.stdout,
        f"next: python -m export --model {checkpoint} --task text-classification --name sentiment "
        f"--eval-data {arguments.output / 'test.csv'}",
    )
    return 0


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()
