"""One training run: Hugging Face's Trainer, set up from a `Recipe`.

Owns tokenising, the loss, what is measured after each epoch, and the choice of the best epoch.

    Dataset -> token ids (cut at max_length, counted) -> Trainer -> best epoch -> scores on validation and test
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_triton_client.labelled import LabelledText
from finetune import adapter
from finetune.errors import RecipeError
from finetune.progress import Progress
from finetune.scores import balanced_weights, scores

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from finetune.base import Base
    from finetune.data import Dataset
    from finetune.recipe import Recipe

_EVAL_BATCH_SIZE = 64


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        model: the model after its best epoch; a peft model if the recipe asks for LoRA.
        epochs: one dict of metrics per epoch that was run.
        best_epoch: the number of the one that was kept, from 1.
        validation: scores on the validation texts.
        test: scores on the test texts, None if there are none.
        cut: number of training texts longer than ``max_length``.
        precision: the arithmetic that was used.
        train_s: seconds spent training and validating.
        trainable_parameters: number of weights that were trained.
    """

    model: Any
    epochs: list[dict[str, float]]
    best_epoch: int
    validation: dict[str, float]
    test: dict[str, float] | None
    cut: int
    precision: str
    train_s: float
    trainable_parameters: int


def train(base: Base, dataset: Dataset, recipe: Recipe, *, work: Path, progress: Progress) -> Trained:
    """Trains ``base`` on ``dataset``.

    Args:
        work: a folder for the epochs' checkpoints; of no use afterwards.

    Raises:
        RecipeError: ``max_length`` is more than the base takes, or its precision is not to be had here.
    """
    from transformers import set_seed

    if recipe.max_length > base.tokenizer.model_max_length:
        raise RecipeError(
            f"max_length is {recipe.max_length}, but the base takes {base.tokenizer.model_max_length} tokens at most"
        )
    precision = resolve_precision(recipe.precision)
    parts, cut = _tokenise(base, dataset, recipe)
    if cut:
        progress.line(f"{cut} of {len(dataset.train)} training texts are longer than {recipe.max_length} tokens: cut")
    set_seed(recipe.seed)
    model = adapter.wrap(base, recipe) if recipe.lora_rank else base.model
    trainer = _trainer(
        base=base,
        model=model,
        dataset=dataset,
        parts=parts,
        recipe=recipe,
        arguments=_arguments(recipe, precision, work),
        progress=progress,
    )
    started = time.monotonic()
    trainer.train()
    train_s = time.monotonic() - started
    epochs = progress.epochs
    return Trained(
        model=trainer.model,
        epochs=epochs,
        best_epoch=1 + max(range(len(epochs)), key=lambda index: epochs[index][recipe.metric]),
        validation=_evaluate(trainer, parts["validation"]),
        test=_evaluate(trainer, parts["test"]) if dataset.test else None,
        cut=cut,
        precision=precision,
        train_s=train_s,
        trainable_parameters=sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
    )


def resolve_precision(asked: str) -> str:
    """fp32 or bf16: "auto" takes bf16 where the hardware computes in it, since emulated bf16 is slower than fp32.

    Raises:
        RecipeError: bf16 was asked for by name and the hardware has none.
    """
    available = _has_bf16()
    if asked == "bf16" and not available:
        raise RecipeError(
            "precision is bf16, but neither this CPU (avx512_bf16, amx_bf16) nor a GPU computes in it: use fp32"
        )
    return "bf16" if available and asked != "fp32" else "fp32"


def _has_bf16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.is_file() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


# --- The Trainer ----------------------------------------------------------------------------------


def _arguments(recipe: Recipe, precision: str, work: Path) -> TrainingArguments:
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.peak_learning_rate,
        lr_scheduler_type="linear",
        warmup_ratio=recipe.warmup_share,
        weight_decay=recipe.weight_decay,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=_EVAL_BATCH_SIZE,
        group_by_length=True,
        bf16=precision == "bf16",
        use_cpu=not torch.accelerator.is_available(),  # without it, the Trainer refuses a CPU's bf16
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,  # and the best one
        load_best_model_at_end=True,
        metric_for_best_model=recipe.metric,
        greater_is_better=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,  # `Progress` has its own
    )


def _trainer(
    *,
    base: Base,
    model: Any,
    dataset: Dataset,
    parts: dict[str, list[dict[str, Any]]],
    recipe: Recipe,
    arguments: TrainingArguments,
    progress: Progress,
) -> Trainer:
    from transformers import DataCollatorWithPadding, EarlyStoppingCallback, PrinterCallback, Trainer

    num_labels = len(dataset.labels)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
        processing_class=base.tokenizer,
        data_collator=DataCollatorWithPadding(base.tokenizer),
        compute_metrics=lambda output: scores(output.predictions.argmax(-1), output.label_ids, num_labels),
        compute_loss_func=_loss(dataset, recipe),
        callbacks=[progress.callback()],
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.patience:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=recipe.patience))
    return trainer


def _loss(dataset: Dataset, recipe: Recipe) -> Any:
    """Cross entropy with the recipe's class weights and label smoothing."""
    import torch

    weights = None
    if recipe.class_weights == "balanced":
        weights = torch.from_numpy(balanced_weights(dataset.label_ids(dataset.train), len(dataset.labels)))

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else weights.to(logits.device),
            label_smoothing=recipe.label_smoothing,
            reduction="sum",
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def _evaluate(trainer: Trainer, part: Any) -> dict[str, float]:
    metrics = trainer.predict(part, metric_key_prefix="result").metrics or {}
    return {name: metrics[f"result_{name}"] for name in ("accuracy", "macro_f1", "loss")} | {"texts": len(part)}


# --- Tokens ---------------------------------------------------------------------------------------


def _tokenise(base: Base, dataset: Dataset, recipe: Recipe) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Token ids by part, and how many training texts were cut; held-out texts are only cut at the model's own limit."""
    longest = base.tokenizer.model_max_length
    train, cut = _encode(base, dataset.train, dataset.label_ids(dataset.train), recipe.max_length)
    validation, _ = _encode(base, dataset.validation, dataset.label_ids(dataset.validation), longest)
    test, _ = _encode(base, dataset.test, dataset.label_ids(dataset.test), longest)
    return {"train": train, "validation": validation, "test": test}, cut


def _encode(
    base: Base, texts: Sequence[LabelledText], label_ids: Sequence[int], max_length: int
) -> tuple[list[dict[str, Any]], int]:
    if not texts:
        return [], 0
    tokenizer = base.tokenizer
    whole = [item.text for item in texts]
    encoded = tokenizer(whole, truncation=True, max_length=max_length, return_overflowing_tokens=False)
    cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    tokenizer.backend_tokenizer.no_truncation()
    names = [name for name in tokenizer.model_input_names if name in encoded]
    rows = [
        {**{name: encoded[name][index] for name in names}, "labels": label} for index, label in enumerate(label_ids)
    ]
    return rows, cut
