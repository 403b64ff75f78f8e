"""Accuracy on labelled text, measured through the server: what it answers is compared with what people said.

    text models      Client.classify(texts)                                       -> the label that the server names
    tensor models    texts -> tokenizer.json -> padded batches -> Client.infer    -> the largest logit

Owns the labelled texts, how labels in a file and labels of a model are the same, and the interval. It never looks into
a manifest, and nothing here is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_triton_client import BertTritonError, Client, InvalidTextError, TLSConfig
from bert_triton_client.labelled import LabelledDataError, read_labelled
from loadtest.cell import Estimate
from loadtest.errors import TargetError, UsageError
from loadtest.target import TEXT_KIND

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loadtest.access import Access
    from loadtest.conclusions.facts import TextSide
    from loadtest.target import Target

Z_95 = 1.959963984540054  # of the standard normal distribution: 95 % two-sided
# Padded tokens of one request, about what the text models of this project send at a time.
TOKENS_A_BATCH = 512
MAX_IN_FLIGHT = 4
MAX_LENGTH = 512  # where nothing says how many tokens the model takes
PADDING_TOKENS = ("[PAD]", "<pad>")
NEVER_ANSWERED = -1

# Told the number of texts done since the last call.
Advance = Callable[[int], object]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and what people said of them.

    Attributes:
        name: of the file.
        texts: what is asked.
        labels: as the file has them, one a text.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, *, text_column: str, label_column: str) -> LabelledTexts:
        """Reads a ``.csv``, ``.tsv`` or ``.jsonl`` file.

        Raises:
            UsageError: it is missing, lacks a column or holds a row that cannot be used.
        """
        try:
            rows = read_labelled(path, text_column=text_column, label_column=label_column)
        except LabelledDataError as exc:
            raise UsageError(f"--eval-data: {exc} (--text-column and --label-column name the columns)") from exc
        return cls(path.name, tuple(row.text for row in rows), tuple(row.label for row in rows))


@dataclass(frozen=True)
class Accuracy:
    """How often a model said what people said.

    Attributes:
        estimate: the share, with Wilson's 95 % interval.
        texts: how many were asked.
        refused: how many of them the model would not take; they count as wrong.
        truncated: how many were cut to the model's longest.
    """

    estimate: Estimate
    texts: int
    refused: int = 0
    truncated: int = 0


def wilson(right: int, total: int) -> Estimate:
    """The share ``right / total`` with its 95 % score interval.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927): unlike the
    usual normal interval it holds near 0 and 1 too.
    """
    share, spread = right / total, Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def check(target: Target, data: LabelledTexts, side: TextSide) -> None:
    """Whether the model's accuracy on ``data`` can be measured, as far as that can be told without asking it.

    Raises:
        UsageError: labels in the file that the model does not have, or a tensor model without tokenizer or labels.
    """
    if side.labels:
        match(data, side.labels)
    if target.kind == TEXT_KIND:
        return
    if side.tokenizer is None:
        raise UsageError(
            f"{target.model} takes tokens, and no tokenizer for it was found: name its tokenizer.json with "
            "--tokenizer, or the model repository that has the text model it belongs to with --repository"
        )
    if not side.labels:
        raise UsageError(
            f"nothing names the labels of {target.model}: give them with --labels, in the order of their ids, or the "
            "model repository that has its labels.json with --repository"
        )


def measure(
    target: Target, data: LabelledTexts, side: TextSide, access: Access, *, timeout_s: float, advance: Advance
) -> Accuracy:
    """Asks the model for every text.

    Args:
        target: a text model, or a tensor model.
        data: what to ask, and the right answers.
        side: tokenizer, labels and limits; a text model does without.
        access: headers and certificates.
        timeout_s: of one request.
        advance: progress.

    Raises:
        UsageError: as `check`, and what only the answers tell.
        TargetError: the server does not answer, or not as a classifier does.
    """
    check(target, data, side)
    tls = TLSConfig(access.ca_certificates)
    try:
        with Client(
            target.url,
            model=target.model,
            headers=access.headers,
            tls=tls,
            request_timeout_s=timeout_s,
            max_in_flight=MAX_IN_FLIGHT,
        ) as client:
            if target.kind == TEXT_KIND:
                return _of_text_model(client, target, data, side, advance)
            return _of_tensor_model(client, target, data, side, timeout_s=timeout_s, advance=advance)
    except BertTritonError as exc:
        raise TargetError(f"the accuracy of {target.model} cannot be measured: {exc}") from exc


def match(data: LabelledTexts, names: Sequence[str | None]) -> list[int]:
    """The label id of every text: its label is a name, or a name but for case, or an id ("0", "1", ...).

    Args:
        data: the texts.
        names: of the model's labels, index = id; None for one that was never answered, so that its name is not known: a
            label that is none of the others may be that one, and is `NEVER_ANSWERED`.

    Raises:
        UsageError: there are labels in the file that the model does not have.
    """
    found = sorted(set(data.labels))
    ways: tuple[tuple[Callable[[str], str], dict[str, int]], ...] = (
        (str, {name: index for index, name in enumerate(names) if name is not None}),
        (str.casefold, {name.casefold(): index for index, name in enumerate(names) if name is not None}),
        (str, {str(index): index for index in range(len(names))}),
    )
    for spelled, ids in ways:
        if all(spelled(label) in ids for label in found):
            return [ids[spelled(label)] for label in data.labels]
    spelled, ids = ways[1]
    unknown = [label for label in found if spelled(label) not in ids]
    if len(unknown) <= names.count(None) and len(unknown) < len(found):
        return [ids.get(spelled(label), NEVER_ANSWERED) for label in data.labels]
    shown = ", ".join(unknown[:10]) + (f", … ({len(unknown)} in all)" if len(unknown) > 10 else "")
    raise UsageError(
        f"--eval-data {data.name} has labels that the model does not: {shown}; expected "
        f"{', '.join(name for name in names if name is not None)}, or the ids 0 to {len(names) - 1}: correct the file, "
        "or name the column with --label-column"
    )


# --- Text models ----------------------------------------------------------------------------------


def _of_text_model(client: Client, target: Target, data: LabelledTexts, side: TextSide, advance: Advance) -> Accuracy:
    names: list[str | None] = list(side.labels)
    ids: list[int | None] = []
    for answer in client.classify_iter(data.texts, version=target.version or None, on_error="return"):
        advance(1)
        if isinstance(answer, InvalidTextError):
            ids.append(None)
            continue
        names += [None] * (len(answer.probabilities) - len(names))
        ids.append(max(range(len(answer.probabilities)), key=answer.probabilities.__getitem__))
        names[ids[-1] or 0] = answer.label
    if not names:
        raise TargetError(f"{target.model} refused every text of {data.name}")
    truth = match(data, names)
    right = sum(given == wanted for given, wanted in zip(ids, truth, strict=True))
    return Accuracy(wilson(right, len(ids)), len(ids), refused=ids.count(None))


# --- Tensor models --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Rows of the file, by number, and their tensors."""

    rows: tuple[int, ...]
    tensors: dict[str, npt.NDArray[Any]]


def _of_tensor_model(
    client: Client, target: Target, data: LabelledTexts, side: TextSide, *, timeout_s: float, advance: Advance
) -> Accuracy:
    output = _logits_name(target)
    ids, truncated = _tokenise(data.texts, side, target.fixed_length)
    batches = list(_batches(ids, target, _padding(side)))

    def ask(batch: _Batch) -> npt.NDArray[Any]:
        answers = client.infer(
            target.model, batch.tensors, version=target.version or None, outputs=[output], timeout_s=timeout_s
        )
        advance(len(batch.rows))
        return answers[output].reshape(len(batch.rows), -1)

    right, truth = 0, match(data, side.labels)
    with ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="accuracy") as pool:
        for batch, logits in zip(batches, pool.map(ask, batches), strict=True):
            if logits.shape[1] != len(side.labels):
                raise UsageError(
                    f"{target.model} answers {logits.shape[1]} numbers a text in {output}, and there are "
                    f"{len(side.labels)} labels ({', '.join(side.labels)}): name all of them with --labels, or the "
                    "right output with --output-tensor"
                )
            right += sum(int(row.argmax()) == truth[at] for at, row in zip(batch.rows, logits, strict=True))
    return Accuracy(wilson(right, len(ids)), len(ids), truncated=truncated)


def _logits_name(target: Target) -> str:
    """The first output of floating-point numbers: what a sequence classifier's logits are."""
    name = next((output.name for output in target.outputs if output.datatype in ("FP32", "FP16", "FP64", "BF16")), None)
    if name is None:
        given = ", ".join(f"{output.name} {output.datatype}" for output in target.outputs)
        raise TargetError(f"{target.model} has no output of floating-point numbers to read labels from, only {given}")
    return name


def _tokenise(texts: Sequence[str], side: TextSide, fixed_length: int | None) -> tuple[list[tuple[int, ...]], int]:
    """Token ids of every text, cut to what the model takes, and how many were cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(side.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    longest = min((limit for limit in (side.max_length, fixed_length) if limit), default=MAX_LENGTH)
    too_long = sum(len(encoding.ids) > longest for encoding in tokenizer.encode_batch_fast(list(texts)))
    tokenizer.enable_truncation(longest)
    return [tuple(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))], too_long


def _padding(side: TextSide) -> int:
    """The id that fills up shorter texts. It matters: RoBERTa counts positions by it."""
    if side.pad_token_id is not None:
        return side.pad_token_id
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(side.tokenizer))
    known = [tokenizer.token_to_id(token) for token in PADDING_TOKENS]
    return next((token for token in known if token is not None), 0)


def _batches(ids: Sequence[tuple[int, ...]], target: Target, padding: int) -> Iterator[_Batch]:
    """Batches of texts of like length, shortest first, so that little of them is padding."""
    fixed = target.fixed_length
    most = max(1, target.max_batch_size)
    rows: list[int] = []
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        width = fixed or len(ids[row])
        if rows and (len(rows) == most or width * (len(rows) + 1) > TOKENS_A_BATCH):
            yield _batch(rows, ids, target, padding)
            rows = []
        rows.append(row)
    if rows:
        yield _batch(rows, ids, target, padding)


def _batch(rows: Sequence[int], ids: Sequence[tuple[int, ...]], target: Target, padding: int) -> _Batch:
    import numpy as np

    width = target.fixed_length or max(len(ids[row]) for row in rows)
    tokens: npt.NDArray[np.int64] = np.full((len(rows), width), padding, dtype=np.int64)
    mask = np.zeros_like(tokens)
    for at, row in enumerate(rows):
        tokens[at, : len(ids[row])] = ids[row]
        mask[at, : len(ids[row])] = 1
    by_role = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    tensors = {}
    for tensor in target.inputs:
        values = by_role[tensor.role].astype(np.dtype(tensor.datatype.lower()))
        # Without a batch dimension of Triton's the dims are the whole shape: [tokens], or [1, tokens].
        tensors[tensor.name] = values[0] if target.max_batch_size == 0 and len(tensor.dims) == 1 else values
    return _Batch(tuple(rows), tensors)
