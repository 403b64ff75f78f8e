"""Runs a classifier over texts: tokens in, logits out, whatever computes them.

Texts are tokenised once and laid out by length in batches of a bounded number of tokens, so that evaluating costs
little padding. A `Classifier` is anything that turns a batch of tensors into logits: the checkpoint in PyTorch, an ONNX
model, a candidate that was never written to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_triton_client.contract import ATTENTION_MASK, INPUT_IDS, LOGITS, TOKEN_TYPE_IDS

Tensors = Mapping[str, NDArray[np.int64]]
Logits = NDArray[np.float32]
Classifier = Callable[[Tensors], Logits]
# Called with the number of texts done since the last call.
Progress = Callable[[int], object]

# As the text model lays out its batches by default: padded tokens of one call.
TOKEN_BUDGET = 512


@dataclass(frozen=True)
class TokenisedTexts:
    """Texts as token ids, and what is needed to batch them.

    Attributes:
        ids: a list of token ids a text, special tokens included.
        inputs: the tensors the model takes.
        pad_token_id: fills up shorter texts.
        truncated: how many texts were cut to the model's longest.
    """

    ids: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    pad_token_id: int
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def tensors(self, rows: Sequence[int]) -> dict[str, NDArray[np.int64]]:
        """The tensors, int64[batch_size, sequence_length], of the texts numbered ``rows``, padded on the right."""
        return pad([self.ids[row] for row in rows], self.inputs, self.pad_token_id)

    def by_length(self, token_budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
        """Batches of row numbers, shortest texts first, of at most ``token_budget`` padded tokens (or one text)."""
        batch: list[int] = []
        for row in sorted(range(len(self.ids)), key=lambda row: len(self.ids[row])):
            if batch and len(self.ids[row]) * (len(batch) + 1) > token_budget:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def tokenise(
    texts: Sequence[str], tokenizer_json: str, inputs: tuple[str, ...], max_length: int, pad_token_id: int
) -> TokenisedTexts:
    """Tokenises ``texts`` as the served model does, with the tokenizer.json that it will be given."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    too_long = sum(len(encoding.ids) > max_length for encoding in tokenizer.encode_batch_fast(list(texts)))
    tokenizer.enable_truncation(max_length)
    ids = tuple(tuple(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts)))
    return TokenisedTexts(ids, inputs, pad_token_id, too_long)


def pad(rows: Sequence[Sequence[int]], inputs: tuple[str, ...], pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """``rows`` of token ids as int64[batch_size, sequence_length] tensors, padded on the right."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    tensors = {INPUT_IDS: ids, ATTENTION_MASK: mask, TOKEN_TYPE_IDS: np.zeros_like(ids)}
    return {name: tensors[name] for name in inputs}


def torch_classifier(model: Any) -> Classifier:
    """The PyTorch ``model`` as a classifier on one thread; `predict` runs several at once."""
    import torch

    def classify(tensors: Tensors) -> Logits:
        torch.set_num_threads(1)  # a setting of the calling thread
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(value) for name, value in tensors.items()}).logits
        return np.asarray(logits.numpy(), dtype=np.float32)

    return classify


def onnx_classifier(model: Path | bytes, threads: int, *, optimise: bool = True) -> Classifier:
    """An ONNX model, a file or its bytes, as a classifier on the CPU."""
    session = onnx_session(model, threads, optimise=optimise)

    def classify(tensors: Tensors) -> Logits:
        return np.asarray(session.run([LOGITS], dict(tensors))[0], dtype=np.float32)

    return classify


def onnx_session(model: Path | bytes, threads: int, *, optimise: bool = True) -> Any:
    """An ONNX Runtime session on the CPU with ``threads`` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between calls get in each other's way wherever the cores are shared, as on CI.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def predict(
    classify: Classifier,
    texts: TokenisedTexts,
    progress: Progress | None = None,
    *,
    batches: Iterable[list[int]] | None = None,
    workers: int = 1,
) -> Logits:
    """The logits, float32[texts, labels], of all ``texts``, in their order.

    With ``workers`` calls of ``classify`` at a time: for many small batches that beats one call on as many threads, and
    by far where the cores are shared, because no thread ever waits for another.
    """
    plan = list(texts.by_length() if batches is None else batches)
    answers: list[Logits] = []
    with ThreadPoolExecutor(workers) as pool:
        for rows, answer in zip(plan, pool.map(lambda rows: classify(texts.tensors(rows)), plan), strict=True):
            answers.append(answer)
            if progress is not None:
                progress(len(rows))
    logits = np.concatenate(answers)
    logits[[row for rows in plan for row in rows]] = logits.copy()
    return logits


def probabilities(logits: Logits) -> NDArray[np.float32]:
    """The softmax of ``logits`` over the labels."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def median_ms(classify: Classifier, tensors: Tensors, *, rounds: int = 15, budget_s: float = 2.0) -> float:
    """The median time of one call in milliseconds: at most ``rounds`` calls in about ``budget_s`` seconds."""
    classify(tensors)
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < rounds and (len(times) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        classify(tensors)
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))
