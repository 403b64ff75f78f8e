"""A process that computes for an in-process row, so that its threads disturb no other: ``python -m`` this module.

Reads one JSON specification from its command line, then lists of texts from stdin, a line each, and answers each with
a line of labels on stdout. Not for people.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ClassifyAll = Callable[[Sequence[str]], list[str]]
Made = tuple[ClassifyAll, str]  # and what was decided at its start


def pipeline(checkpoint: str, dtype: str, batch_size: int, max_length: int) -> Made:
    """The transformers pipeline as its documentation shows it."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    classifier = transformers.pipeline(
        "text-classification", model=checkpoint, device="cpu", dtype=getattr(torch, dtype), batch_size=batch_size
    )

    def classify_all(texts: Sequence[str]) -> list[str]:
        answers = classifier(list(texts), truncation=True, max_length=max_length)
        return [str(answer["label"]) for answer in answers]

    return classify_all, ""


def engine(repository: str, name: str, precision: str | None, layout: str, threads: int) -> Made:
    """One of our tensor models, by the engine and with the settings of its config."""
    from bench import in_process

    model = in_process.InProcessModel(Path(repository), name, precision, threads)
    order = getattr(in_process, layout)

    def classify_all(texts: Sequence[str]) -> list[str]:
        return model.classify_all(texts, order)

    return classify_all, f"{model.tensor_model.removeprefix(f'{name}_')}, {model.engine}"


KINDS: dict[str, Callable[..., Made]] = {"pipeline": pipeline, "engine": engine}


def main() -> None:
    """Load, say so, answer until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    specification: dict[str, Any] = json.loads(sys.argv[1])
    classify_all, detail = KINDS[specification.pop("kind")](**specification)
    print(json.dumps(detail), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(classify_all(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
