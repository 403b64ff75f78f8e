"""The hyper-parameters of a fine-tuning run.

Owns their names, defaults and limits. Standard library only, so that a wrong flag is told before torch is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune.errors import RecipeError

CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "fp32", "bf16")
METRICS = ("macro_f1", "accuracy")

# Full fine-tuning: what the BERT paper recommends (2e-5 to 5e-5). LoRA moves far fewer weights and takes about ten
# times that.
FULL_LEARNING_RATE = 3e-5
LORA_LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class Recipe:
    """How to train; every field is checked on construction.

    Attributes:
        epochs: most passes over the training texts.
        learning_rate: its peak, after warm-up; None takes the usual one for full fine-tuning or for LoRA.
        batch_size: texts per step.
        max_length: tokens of a text, special ones included; longer training texts are cut, and counted.
        warmup_share: share of all steps in which the learning rate rises from 0.
        weight_decay: AdamW's.
        label_smoothing: probability mass taken from the right label and spread over all.
        class_weights: "balanced" makes every label count the same, however rare.
        patience: epochs without a better ``metric`` on the validation texts before training stops; 0 never stops early.
        metric: what chooses the best epoch.
        lora_rank: rank of the LoRA adapter; 0 trains all weights.
        lora_dropout: dropout before the adapter.
        precision: arithmetic of the training steps; "auto" is bf16 where the hardware has it.
        seed: of everything random.
    """

    epochs: int = 4
    learning_rate: float | None = None
    batch_size: int = 32
    max_length: int = 128
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    class_weights: str = "none"
    patience: int = 2
    metric: str = "macro_f1"
    lora_rank: int = 0
    lora_dropout: float = 0.05
    precision: str = "auto"
    seed: int = 42

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 1, 1000)
        _within("batch_size", self.batch_size, 1, 4096)
        _within("max_length", self.max_length, 3, 100_000)
        _within("warmup_share", self.warmup_share, 0.0, 0.9)
        _within("weight_decay", self.weight_decay, 0.0, 1.0)
        _within("label_smoothing", self.label_smoothing, 0.0, 0.5)
        _within("patience", self.patience, 0, 1000)
        _within("lora_rank", self.lora_rank, 0, 1024)
        _within("lora_dropout", self.lora_dropout, 0.0, 0.9)
        _within("seed", self.seed, 0, 2**32 - 1)
        if self.learning_rate is not None:
            _within("learning_rate", self.learning_rate, 1e-8, 1.0)
        _one_of("class_weights", self.class_weights, CLASS_WEIGHTS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("metric", self.metric, METRICS)

    @property
    def peak_learning_rate(self) -> float:
        """``learning_rate``, or the usual one for this kind of training."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LORA_LEARNING_RATE if self.lora_rank else FULL_LEARNING_RATE


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RecipeError(f"{name} is {value}: expected {low} to {high}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{name} is {value!r}: expected one of {', '.join(known)}")
