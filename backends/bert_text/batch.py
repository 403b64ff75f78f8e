"""One dynamic batch, from the texts of all its requests to a result for each request.

Knows nothing of Triton: requests arrive as texts and deadlines, the tensor model as a function.
Texts of different requests share tokenising and executions; what goes wrong with a text or an
execution reaches only the requests that hold one of its texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import metrics, texts
from .cache import TextCache, digest
from .decode import Decoder, FloatArray
from .layout import lay_out
from .settings import Settings
from .tensors import Int64Array, padded
from .texts import BadText
from .tokenise import Tokeniser, Tokens

# Calls of the tensor model under way at once: one computes while the next is already in its queue.
# More would sit in that queue together, where Triton merges equal shapes again and undoes the layout.
CALLS_IN_FLIGHT = 2

# Asking Triton whether a request was cancelled is a round trip; a batch that is answered within this is not worth one.
ASK_CANCELLED_AFTER_S = 0.05

# Codes of a failure, by Triton's names.
INVALID_ARG = "INVALID_ARG"
UNAVAILABLE = "UNAVAILABLE"
INTERNAL = "INTERNAL"
CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class Failure:
    """Why a request is not answered: the name of a Triton error code, and the message."""

    code: str
    message: str


@dataclass
class TextRequest:
    """The texts of one request.

    Attributes:
        texts: as received.
        deadline_s: on `time.monotonic`'s clock; None = none.
        is_cancelled: whether the caller still waits.
        failure: why it is not answered; set once.
        values: float32[texts, num_labels] when answered.
    """

    texts: Sequence[bytes]
    deadline_s: float | None = None
    is_cancelled: Callable[[], bool] = bool  # bool() is False
    failure: Failure | None = None
    values: FloatArray | None = None

    def fail(self, failure: Failure) -> None:
        """Fail, unless it has failed already."""
        if self.failure is None:
            self.failure = failure


@dataclass(frozen=True)
class Answer:
    """What the cache keeps of a text."""

    values: FloatArray
    truncated: bool


@dataclass
class _Text:
    """A distinct text of the batch: who sent it, and how far it has come."""

    key: bytes
    decoded: str
    places: list[tuple[TextRequest, int]] = field(default_factory=list)
    tokens: Tokens | None = None
    answer: Answer | None = None
    from_cache: bool = False

    @property
    def wanted(self) -> bool:
        return any(request.failure is None for request, _ in self.places)

    def fail(self, failure: Failure) -> None:
        for request, _ in self.places:
            request.fail(failure)


# The tensor model: (inputs, timeout in microseconds or 0) -> its output or why there is none.
TensorModel = Callable[[dict[str, Int64Array], int], "npt.NDArray[Any] | Failure"]


class BatchRunner:
    """Answers dynamic batches of one model instance."""

    def __init__(
        self,
        settings: Settings,
        tokeniser: Tokeniser,
        decoder: Decoder,
        tensor_model: TensorModel,
        count: Callable[..., None],
    ) -> None:
        self._settings = settings
        self._tokeniser = tokeniser
        self._decoder = decoder
        self._tensor_model = tensor_model
        self._count = count
        self._pool = ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix="bert_text call")
        self.cache: TextCache[Answer] = TextCache(settings.cache_size)

    def run(self, requests: Sequence[TextRequest]) -> None:
        """Give every request its values or its failure."""
        self._count(metrics.TEXTS, sum(len(request.texts) for request in requests))
        batch = [text for text in self._read(requests) if text.wanted]
        self._look_up(batch)
        computed = self._tokenise([text for text in batch if text.answer is None])
        self._compute(computed)
        for text in computed:
            if text.answer is not None:
                self.cache.put(text.key, text.answer)
        self._collect(requests, batch)
        self._count_cache(batch)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False)

    def _read(self, requests: Sequence[TextRequest]) -> list[_Text]:
        """The distinct texts of all requests, bad ones left out."""
        distinct: dict[bytes, _Text] = {}
        for request in requests:
            for index, raw in enumerate(request.texts):
                key = digest(raw)
                text = distinct.get(key)
                if text is None:
                    decoded = texts.read(raw, self._settings.max_text_bytes)
                    if isinstance(decoded, BadText):
                        self._refuse(request, index, decoded)
                        break
                    text = distinct[key] = _Text(key, decoded)
                text.places.append((request, index))
        return list(distinct.values())

    def _look_up(self, batch: Sequence[_Text]) -> None:
        if self.cache.size:
            for text in batch:
                text.answer = self.cache.get(text.key)
                text.from_cache = text.answer is not None

    def _tokenise(self, batch: Sequence[_Text]) -> list[_Text]:
        """The texts that can be computed, with their tokens."""
        if not batch:
            return []
        for text, tokens in zip(batch, self._tokeniser.encode([text.decoded for text in batch]), strict=True):
            if isinstance(tokens, BadText):
                for request, index in text.places:
                    self._refuse(request, index, tokens)
            else:
                text.tokens = tokens
        return [text for text in batch if text.tokens is not None and text.wanted]

    def _refuse(self, request: TextRequest, index: int, bad: BadText) -> None:
        if request.failure is None:
            self._count(metrics.REJECTED, 1, bad.reason)
        request.fail(Failure(INVALID_ARG, f"TEXT[{index}]: {bad.message}"))

    def _compute(self, batch: Sequence[_Text]) -> None:
        """Fill in answers, in as few padded tokens and calls as can be."""
        started_s = time.monotonic()
        lengths = [len(text.tokens or ()) for text in batch]
        executions = lay_out(lengths, self._settings.max_tokens, self._settings.max_batch_size)
        groups = [[batch[index] for index in execution] for execution in executions]
        if len(groups) == 1:
            self._execute(groups[0], started_s)
        else:
            list(self._pool.map(lambda group: self._execute(group, started_s), groups))

    def _execute(self, group: Sequence[_Text], started_s: float) -> None:
        """One call of the tensor model."""
        self._drop_the_late(group, started_s)
        group = [text for text in group if text.wanted]
        if not group:
            return
        rows = [text.tokens.ids for text in group if text.tokens is not None]
        inputs = padded(rows, self._settings.tensor_inputs, self._settings.pad_token_id)
        tokens = sum(map(len, rows))
        self._count(metrics.EXECUTIONS)
        self._count(metrics.TOKENS, tokens)
        self._count(metrics.PADDING_TOKENS, len(rows) * max(map(len, rows)) - tokens)
        output = self._tensor_model(inputs, _timeout_us(group))
        failure = output if isinstance(output, Failure) else self._decode(group, output)
        if failure is not None:
            for text in group:
                text.fail(failure)

    def _drop_the_late(self, group: Sequence[_Text], started_s: float) -> None:
        """Fail requests nobody waits for any more, before computing their texts."""
        now_s = time.monotonic()
        ask = now_s - started_s > ASK_CANCELLED_AFTER_S
        for request in {id(request): request for text in group for request, _ in text.places}.values():
            if request.failure is not None:
                continue
            if request.deadline_s is not None and now_s >= request.deadline_s:
                request.fail(Failure(UNAVAILABLE, "the request's timeout passed before its texts were computed"))
            elif ask and request.is_cancelled():
                request.fail(Failure(CANCELLED, "the request was cancelled"))

    def _decode(self, group: Sequence[_Text], output: npt.NDArray[Any]) -> Failure | None:
        if output.ndim != 2 or output.shape[0] != len(group):
            return Failure(
                INTERNAL,
                f"{self._settings.tensor_model} answered {self._settings.tensor_output} of shape {list(output.shape)} "
                f"to {len(group)} rows",
            )
        values = self._decoder.values(output)
        finite = np.isfinite(values).all(axis=1)
        for text, row, good in zip(group, values, finite.tolist(), strict=True):
            if good:
                text.answer = Answer(row.copy(), text.tokens is not None and text.tokens.truncated)
            else:
                for request, index in text.places:
                    request.fail(
                        Failure(INTERNAL, f"TEXT[{index}]: {self._settings.tensor_model} answered not a number")
                    )
        return None

    def _collect(self, requests: Sequence[TextRequest], batch: Sequence[_Text]) -> None:
        rows: dict[int, dict[int, Answer]] = {id(request): {} for request in requests}
        for text in batch:
            if text.answer is not None:
                for request, index in text.places:
                    rows[id(request)][index] = text.answer
        truncated = 0
        for request in requests:
            if request.failure is None:
                answers = rows[id(request)]
                request.values = self._stack([answers[index] for index in range(len(request.texts))])
                truncated += sum(answer.truncated for answer in answers.values())
        self._count(metrics.TRUNCATED, truncated)

    def _count_cache(self, batch: Sequence[_Text]) -> None:
        if self.cache.size == 0:
            return
        answered = [text for text in batch if text.answer is not None]
        misses = sum(not text.from_cache for text in answered)
        self._count(metrics.CACHE_HITS, sum(len(text.places) for text in answered) - misses)
        self._count(metrics.CACHE_MISSES, misses)

    def _stack(self, answers: Sequence[Answer]) -> FloatArray:
        if not answers:
            return np.empty((0, self._decoder.num_labels), dtype=np.float32)
        return np.stack([answer.values for answer in answers])


def _timeout_us(group: Sequence[_Text]) -> int:
    """Microseconds the call may wait: as long as the most patient of its requests waits; 0 = for ever."""
    deadlines = [request.deadline_s for text in group for request, _ in text.places if request.failure is None]
    if any(deadline is None for deadline in deadlines):
        return 0
    latest_s = max(deadline for deadline in deadlines if deadline is not None)
    return max(1, int((latest_s - time.monotonic()) * 1e6))
