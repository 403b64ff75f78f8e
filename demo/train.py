"""`python -m demo.train`: the command that made the committed adapter, `demo/adapter/`.

Owns the demo's recipe. It is `python -m finetune` on the demo's sentences, and keeps the adapter of what comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from demo import tables
from demo.base import BASE_NAME, base_folder
from demo.errors import DemoError
from demo.sentences import DEFAULT_CACHE
from finetune.data import DataSource
from finetune.errors import FinetuneError
from finetune.output import whole_folder
from finetune.recipe import Recipe

ADAPTER_FOLDER = Path(__file__).with_name("adapter")

# Epochs are chosen by the validation sentences. fp32 so that any CPU repeats it.
RECIPE = Recipe(
    epochs=3,
    learning_rate=5e-4,
    batch_size=16,
    max_length=64,
    lora_rank=16,
    metric="accuracy",
    precision="fp32",
    seed=42,
)


def train(output: Path, cache: Path) -> dict[str, object]:
    """Trains the demo's adapter into ``output`` (replaced when it is complete); returns its metrics."""
    from finetune.pipeline import ADAPTER_FOLDER as TRAINED_ADAPTER
    from finetune.pipeline import FinetuneRequest, run
    from finetune.progress import Progress

    with whole_folder(output, overwrite=True) as folder, tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        work = Path(scratch)
        tables.write(work, cache)
        report = run(
            FinetuneRequest(
                base=str(base_folder()),
                base_name=BASE_NAME,
                source=DataSource(work / "train.csv", work / "validation.csv", work / "test.csv"),
                output=work / "checkpoint",
                recipe=RECIPE,
            ),
            Progress(),
        )
        shutil.copytree(report.output / TRAINED_ADAPTER, folder, dirs_exist_ok=True)
        metrics = {"command": "python -m demo.train", **report.metrics}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train", description="Train the demo's adapter.", allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=ADAPTER_FOLDER, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps the download (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        metrics = train(arguments.output, arguments.cache)
    except (DemoError, FinetuneError) as exc:
        if os.environ.get("BERT_TRITON_DEBUG") == "1":
            raise
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.write(f"{json.dumps(metrics['test'])}\nwrote {arguments.output}; next: python -m demo build\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
