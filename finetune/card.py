"""What a checkpoint says about itself: the model card (README.md) and metrics.json.

Owns both formats. The licence travels from the base's card to ours: whoever exports the checkpoint reads it there.
Standard library only.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

CARD_FILE = "README.md"
METRICS_FILE = "metrics.json"
_TOOLS = ("torch", "transformers", "peft", "accelerate", "tokenizers")


def licence(base: str) -> str | None:
    """The ``license`` of the front matter of the base's model card, None if it is no folder or states none."""
    card = Path(base) / CARD_FILE
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, _, value = line.partition(":")
        if key == "license" and value.strip():
            return value.strip().strip("\"'")
    return None


def versions() -> dict[str, str]:
    """The versions of the packages that made the checkpoint, as far as they are installed."""
    return {package: metadata.version(package) for package in _TOOLS if importlib.util.find_spec(package)}


def write_card(folder: Path, *, title: str, base_name: str, base_licence: str | None, body: str) -> None:
    """Writes README.md with the front matter that Hugging Face's tools and `python -m export` read."""
    front = {
        "license": base_licence,
        "base_model": base_name,
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
    }
    matter = "\n".join(f"{key}: {value}" for key, value in front.items() if value)
    (folder / CARD_FILE).write_text(f"---\n{matter}\n---\n\n# {title}\n\n{body.strip()}\n", encoding="utf-8")


def scores_line(scores: Mapping[str, float]) -> str:
    """``accuracy 0.8812, macro F1 0.8811 on 2,200 texts``."""
    return f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f} on {int(scores['texts']):,} texts"


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes metrics.json."""
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
