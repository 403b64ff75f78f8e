"""The labels that the checkpoint itself gives, PyTorch in FP32: ``python -m`` this module computes them.

Computed once for a checkpoint and a list of texts, then found again under ``build/bench/reference``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path("build/bench/reference")
BATCH_SIZE = 16


def labels(checkpoint: Path, texts: Sequence[str], max_length: int) -> list[str]:
    """A label for each text, in their order."""
    weights = (checkpoint / "model.safetensors").stat()
    key = json.dumps([str(checkpoint), weights.st_size, weights.st_mtime_ns, max_length, list(texts)])
    result = FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not result.exists():
        print("  asking the checkpoint itself for its labels", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench.compare.reference", str(checkpoint), str(max_length)]
        done = subprocess.run(command, input=json.dumps(list(texts)), check=True, stdout=subprocess.PIPE, text=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = result.with_suffix(".partial")
        partial.write_text(done.stdout)
        partial.rename(result)
    found: list[str] = json.loads(result.read_text())
    return found


def _compute(checkpoint: str, texts: Sequence[str], max_length: int) -> list[str]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    found = [""] * len(texts)
    order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        inputs = tokenizer(
            [texts[position] for position in batch],
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            classes = model(**inputs).logits.argmax(-1)
        for position, label in zip(batch, classes, strict=True):
            found[position] = model.config.id2label[int(label)]
    return found


if __name__ == "__main__":
    print(json.dumps(_compute(sys.argv[1], json.load(sys.stdin), int(sys.argv[2]))))
