"""What packing is worth: the same checkpoint exported with and without it, in process, on mixed and on equal lengths.

    one at a time       nothing is padded in either layout: what packing costs
    equal lengths       the same in a batch
    arrival order, 16   texts as they come, 16 a batch: what most servers run
    N tokens            texts as they come, as many as have N tokens together; a longer one by itself
    sorted, N tokens    the same after sorting by length

Lengths are log-normal with a mean of 33 tokens, 117 at most, as those of sentences and short reviews are; the words are
drawn at random, which changes no time. The padded graph runs in ONNX Runtime, the packed one in each engine. In each
round every graph makes every way of batching once, in an order drawn anew; a ratio is the median over rounds of the
ratios within a round. Run it with ``make bench-packing``.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.in_process import InProcessModel, Layout, arrival_order, one_text, sorted_budget
from bench.load import cpu_name
from bench.models import MODELS, exported, newest_version
from bench.result import publish

MEAN_TOKENS, MOST_TOKENS, SPREAD = 33, 117, 0.6
EQUAL_TOKENS = 32
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
# engine and precision of the packed graphs; the padded one of the same precision runs in ONNX Runtime
ENGINES = {"fp32": ("onnxruntime",), "int8": ("onnxruntime", "openvino")}


def budget(tokens: Sequence[int], most: int) -> Iterator[list[int]]:
    """Texts as they come, ``most`` tokens together; a longer text by itself."""
    group: list[int] = []
    total = 0
    for position, count in enumerate(tokens):
        if group and total + count > most:
            yield group
            group, total = [], 0
        group.append(position)
        total += count
    if group:
        yield group


# name -> the batches by the texts' token counts, and whether lengths are mixed
WAYS: dict[str, tuple[Layout, bool]] = {
    "one at a time": (one_text, True),
    "equal lengths, 16": (arrival_order, False),
    "arrival order, 16": (arrival_order, True),
    "256 tokens": (lambda tokens: budget(tokens, 256), True),
    "512 tokens": (lambda tokens: budget(tokens, 512), True),
    "sorted, 512 tokens": (lambda tokens: sorted_budget(tokens, 512), True),
}


@dataclass(frozen=True)
class Row:
    """One graph and way of batching.

    Attributes:
        graph: layout, engine and precision.
        way: a key of `WAYS`.
        padding: padded tokens / real tokens of its batches.
        per_s: sentences/s, median over rounds.
        lowest: least and ...
        highest: ... most of a round.
        ratio: to the padded graph of the same precision, batched the same; median over rounds.
        least_ratio: of a round.
        arrival_ratio: to the padded graph in arrival order, 16 a batch.
    """

    graph: str
    way: str
    padding: float
    per_s: float
    lowest: float
    highest: float
    ratio: float
    least_ratio: float
    arrival_ratio: float


def texts_of(words: Sequence[str], count: int, *, mixed: bool, seed: int = 0) -> list[str]:
    """``count`` texts of random ``words``, a token each."""
    generator = np.random.default_rng(seed)
    drawn = generator.lognormal(np.log(MEAN_TOKENS) - SPREAD**2 / 2, SPREAD, size=count)
    lengths = np.clip(drawn, 3, MOST_TOKENS).astype(int) if mixed else np.full(count, EQUAL_TOKENS)
    return [" ".join(generator.choice(words, size=length - SPECIAL_TOKENS)) for length in lengths]


def words_of(repository: Path, name: str) -> list[str]:
    """Words that are one token each."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(newest_version(repository, name) / "tokenizer.json"))
    candidates = sorted(token for token in tokenizer.get_vocab() if token.isascii() and token.isalpha())
    encoded = tokenizer.encode_batch(candidates)
    return [word for word, one in zip(candidates, encoded, strict=True) if len(one.ids) == 1 + SPECIAL_TOKENS]


def padding_of(tokens: Sequence[int], layout: Layout) -> float:
    """Padded tokens / real tokens."""
    padded = sum(len(group) * max(tokens[position] for position in group) for group in layout(tokens))
    return padded / sum(tokens)


Cell = tuple[str, str]


def measure(graphs: dict[str, InProcessModel], texts: dict[bool, list[str]], rounds: int) -> dict[Cell, list[float]]:
    """Sentences/s of every graph and way in every round."""
    cells = [(graph, way) for graph in graphs for way in WAYS]
    per_s: dict[Cell, list[float]] = {cell: [] for cell in cells}
    for number in range(-1, rounds):  # the first one warms up
        random.Random(number).shuffle(cells)
        for graph, way in cells:
            layout, mixed = WAYS[way]
            start = time.perf_counter()
            graphs[graph].classify_all(texts[mixed], layout)
            if number >= 0:
                per_s[graph, way].append(len(texts[mixed]) / (time.perf_counter() - start))
        print(f"  round {number + 1} of {rounds}", file=sys.stderr)
    return per_s


def rows_of(per_s: dict[Cell, list[float]], tokens: dict[bool, list[int]], precision: str) -> list[Row]:
    """Medians and ratios; within a round first."""
    padded = padded_name(precision)
    arrival = per_s[padded, "arrival order, 16"]

    def row(graph: str, way: str, own: list[float]) -> Row:
        layout, mixed = WAYS[way]
        ratios = [one / other for one, other in zip(own, per_s[padded, way], strict=True)]
        to_arrival = statistics.median(one / other for one, other in zip(own, arrival, strict=True))
        return Row(
            graph,
            way,
            padding_of(tokens[mixed], layout),
            statistics.median(own),
            min(own),
            max(own),
            statistics.median(ratios),
            min(ratios),
            to_arrival,
        )

    return [row(graph, way, own) for (graph, way), own in sorted(per_s.items(), key=lambda item: item[0])]


def padded_name(precision: str) -> str:
    """What the padded graph of ``precision`` is called."""
    return f"padded, onnxruntime, {precision}"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| graph | batches | padded / real tokens | sentences/s | / padded | / padded, arrival order |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.graph} | {row.way} | {row.padding:.2f} | {row.per_s:.1f} ({row.lowest:.1f} to {row.highest:.1f}) "
        f"| {row.ratio:.2f} (least {row.least_ratio:.2f}) | {row.arrival_ratio:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Export, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.packing", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="bert-base", choices=tuple(MODELS))
    parser.add_argument("--precision", nargs="+", default=list(ENGINES), choices=tuple(ENGINES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    options = parser.parse_args()

    threads = len(os.sched_getaffinity(0))
    name = MODELS[options.model].text_model
    rows: list[Row] = []
    # The same exports as bench.compare's, so that they are made once.
    repository = exported(options.model, ("fp32", "int8"), engine="onnxruntime", packing=False, serve="fp32")
    for precision in options.precision:
        graphs = {padded_name(precision): InProcessModel(repository, name, precision, threads)}
        for engine in ENGINES[precision]:
            packed = exported(options.model, (precision,), engine=engine, serve=precision)
            graphs[f"packed, {engine}, {precision}"] = InProcessModel(packed, name, precision, threads)
        words = words_of(repository, name)
        texts = {mixed: texts_of(words, options.texts, mixed=mixed) for mixed in (True, False)}
        tokens = {mixed: [text.count(" ") + 1 + SPECIAL_TOKENS for text in lot] for mixed, lot in texts.items()}
        rows += rows_of(measure(graphs, texts, options.rounds), tokens, precision)
    mean = statistics.mean(tokens[True])
    method = (
        f"{MODELS[options.model].description}, in process, {threads} threads, {cpu_name()}, "
        f"{time.strftime('%Y-%m-%d')}. {options.texts} texts of {min(tokens[True])} to {max(tokens[True])} tokens "
        f"(mean {mean:.0f}; equal lengths: {EQUAL_TOKENS}), {options.rounds} rounds in drawn order; median (spread)."
    )
    publish("bench-packing", method, table(rows), rows)


if __name__ == "__main__":
    main()
