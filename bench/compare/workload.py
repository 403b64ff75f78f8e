"""Puts the workload together: checkpoint, texts in their order, their lengths and what people say of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from bench.compare.contestant import Workload
from bench.compare.texts import Lengths, fair_order, lengths, reviews
from bench.models import DEMO, MODELS


@dataclass(frozen=True)
class Work:
    """A workload, and what only the judge of the answers knows.

    Attributes:
        workload: what the contestants get.
        tokens: of each text.
        lengths: their distribution.
        human: the label that people gave each text.
    """

    workload: Workload
    tokens: list[int]
    lengths: Lengths
    human: list[str]


def work(model: str) -> Work:
    """For a key of `bench.models.MODELS`."""
    from tokenizers import Tokenizer

    checkpoint = MODELS[model].checkpoint()
    config = json.loads((checkpoint / "config.json").read_text())
    max_length = int(config["max_position_embeddings"])
    labels = [config["id2label"][str(index)] for index in range(len(config["id2label"]))]
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    texts = reviews(DEMO / "test.csv")
    counts = [len(encoding.ids) for encoding in tokenizer.encode_batch([text.text for text in texts])]
    order = fair_order(texts, counts)
    tokens = [counts[index] for index in order]
    return Work(
        Workload(
            checkpoint, labels, len(os.sched_getaffinity(0)), [texts[index].text for index in order], max_length, model
        ),
        tokens,
        lengths(tokens),
        [texts[index].label for index in order],
    )
