"""The model of the services that somebody has worked on: no pipeline, and the usual ways to make PyTorch faster."""

import os
from collections.abc import Callable

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def load() -> Callable[[list[str]], list[str]]:
    """Texts to labels; ``CHECKPOINT``, ``PRECISION`` (fp32, bf16, int8) and ``THREADS`` (0 = PyTorch's own) say how."""
    precision = os.environ["PRECISION"]
    threads = int(os.environ["THREADS"])
    if threads:
        torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(os.environ["CHECKPOINT"])
    model = AutoModelForSequenceClassification.from_pretrained(
        os.environ["CHECKPOINT"], dtype=torch.bfloat16 if precision == "bf16" else torch.float32
    ).eval()
    if precision == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    labels = model.config.id2label

    @torch.inference_mode()
    def classify(texts: list[str]) -> list[str]:
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return [labels[int(label)] for label in model(**inputs).logits.argmax(-1)]

    return classify
