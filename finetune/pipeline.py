"""The whole of a fine-tuning: data, base, training, and the checkpoint folder with everything that belongs in it.

output/  config.json  model.safetensors  tokenizer.json ...   the fine-tuned model, merged, as transformers loads it
         README.md     model card: licence, base, scores
         metrics.json  recipe, metrics of every epoch, scores, versions
         adapter/      the LoRA adapter alone, if there is one
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import adapter, card, data
from finetune.data import DataSource
from finetune.errors import BaseModelError
from finetune.output import disk_errors, whole_folder
from finetune.recipe import Recipe

if TYPE_CHECKING:
    from finetune.base import Base
    from finetune.data import Dataset
    from finetune.progress import Progress
    from finetune.train import Trained

ADAPTER_FOLDER = "adapter"

# Merging is exact up to float32 rounding; 100 times what was measured (1e-6) is a defect.
_MERGE_TOLERANCE = 1e-4
_MERGE_CHECK_TEXTS = 16


@dataclass(frozen=True)
class FinetuneRequest:
    """Everything that `run` needs to know.

    Attributes:
        base: folder or hub id of the base checkpoint.
        base_name: what the model card and the adapter call the base; None takes its id or its folder's name.
        overwrite: replace ``output`` if it exists.
    """

    base: str
    source: DataSource
    output: Path
    recipe: Recipe = field(default_factory=Recipe)
    base_name: str | None = None
    overwrite: bool = False

    @property
    def shown_base(self) -> str:
        """The base's name without a path of this machine."""
        return self.base_name or (Path(self.base).resolve().name if Path(self.base).exists() else self.base)


@dataclass(frozen=True)
class FinetuneReport:
    """What came of a run: the folder, and what its metrics.json says."""

    output: Path
    metrics: dict[str, Any]


def run(request: FinetuneRequest, progress: Progress) -> FinetuneReport:
    """Fine-tunes as ``request`` says; ``request.output`` is there whole afterwards, or untouched after an error.

    Raises:
        FinetuneError: see its subclasses; told before training wherever it can be known by then.
    """
    with whole_folder(request.output, overwrite=request.overwrite) as folder:
        dataset = data.load(request.source, seed=request.recipe.seed)
        progress.line(_counts_line(dataset))
        from finetune import base as bases
        from finetune import train

        base = bases.load(request.base, dataset.labels, seed=request.recipe.seed)
        with disk_errors(request.output):
            work = folder / ".trainer"
            trained = train.train(base, dataset, request.recipe, work=work, progress=progress)
            shutil.rmtree(work, ignore_errors=True)
            metrics = _metrics(request, dataset, trained)
            _save(request, base, dataset, trained, folder)
            _describe(request, dataset, metrics, folder)
    return FinetuneReport(request.output, metrics)


def _save(request: FinetuneRequest, base: Base, dataset: Dataset, trained: Trained, folder: Path) -> None:
    model = trained.model
    if request.recipe.lora_rank:
        adapter.save(model, folder / ADAPTER_FOLDER, base_name=request.shown_base)
        texts = [item.text for item in dataset.validation[:_MERGE_CHECK_TEXTS]]
        before = logits(base, model, texts)
        model = adapter.merge_loaded(model)
        difference = float((before - logits(base, model, texts)).abs().max())
        if not difference <= _MERGE_TOLERANCE:
            raise BaseModelError(
                f"the merged model's logits differ from the adapter's by {difference:.2g}, "
                f"more than {_MERGE_TOLERANCE:.0e}: "
                "this peft cannot merge into this base; train with --lora-rank 0"
            )
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def logits(base: Base, model: Any, texts: list[str]) -> Any:
    """float32[len(texts), num_labels]: the model's answers, each text cut at the model's own limit."""
    import torch

    model.eval()
    batch = base.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    base.tokenizer.backend_tokenizer.no_truncation()
    base.tokenizer.backend_tokenizer.no_padding()
    with torch.inference_mode():
        return model(**{name: ids.to(model.device) for name, ids in batch.items()}).logits.float().cpu()


def _metrics(request: FinetuneRequest, dataset: Dataset, trained: Trained) -> dict[str, Any]:
    recipe = dataclasses.asdict(request.recipe) | {
        "learning_rate": request.recipe.peak_learning_rate,
        "precision": trained.precision,
    }
    return {
        "base": request.shown_base,
        "recipe": recipe,
        "labels": list(dataset.labels),
        "texts": {name: len(getattr(dataset, name)) for name in ("train", "validation", "test")},
        "training_texts_cut": trained.cut,
        "trainable_parameters": trained.trainable_parameters,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "validation": trained.validation,
        "test": trained.test,
        "train_s": round(trained.train_s, 1),
        "versions": card.versions(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _describe(request: FinetuneRequest, dataset: Dataset, metrics: dict[str, Any], folder: Path) -> None:
    card.write_metrics(folder, metrics)
    card.write_card(
        folder,
        title=request.output.name,
        base_name=request.shown_base,
        base_licence=card.licence(request.base),
        body=_body(request, dataset, metrics),
    )


def _body(request: FinetuneRequest, dataset: Dataset, metrics: dict[str, Any]) -> str:
    kind = f"a LoRA adapter of rank {request.recipe.lora_rank}, merged" if request.recipe.lora_rank else "all weights"
    lines = [
        f"{request.shown_base}, fine-tuned ({kind}) to tell {', '.join(dataset.labels)} apart.",
        f"Trained on {len(dataset.train):,} texts for {len(metrics['epochs'])} epochs; "
        f"epoch {metrics['best_epoch']} was kept.",
        "",
        f"- validation (chose the epoch): {card.scores_line(metrics['validation'])}",
    ]
    if metrics["test"]:
        lines.append(f"- test (seen once, at the end): {card.scores_line(metrics['test'])}")
    return "\n".join([*lines, "", "Everything that was set and measured is in metrics.json."])


def _counts_line(dataset: Dataset) -> str:
    counts = {label: sum(item.label == label for item in dataset.train) for label in dataset.labels[:10]}
    shown = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    parts = f"{len(dataset.train):,} training, {len(dataset.validation):,} validation, {len(dataset.test):,} test texts"
    return f"{parts}; {len(dataset.labels)} labels in training: {shown}"
