"""Requests in, answers out: who tokenises, who computes, who is told.

``submit`` reads the texts of requests and answers from the cache in the caller's thread. What is left waits in a
`TextQueue`, and as many threads as calls of the tensor model may be in flight take from it: whoever is free tokenises
what arrived and forms the next execution. What goes wrong with a text or an execution reaches only the requests that
hold one of its texts. Knows nothing of Triton: requests arrive as texts and deadlines, the tensor model as a function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from . import metrics, texts
from .cache import digest
from .decode import Decoder
from .execution import Executor, TensorModel
from .layout import Budget
from .metrics import Tally
from .settings import Settings
from .text_queue import Text, TextQueue
from .text_request import CANCELLED, INTERNAL, INVALID_ARG, Answer, Failure, TextRequest
from .texts import BadText
from .tokenise import Tokeniser, Tokens

# Asking Triton whether a request was cancelled is a round trip; only what has waited this long is worth one.
ASK_CANCELLED_AFTER_S = 0.25
GONE = Failure(CANCELLED, "the request was cancelled", outcome="cancelled")

CLOSE_TIMEOUT_S = 5.0


class Scheduler:
    """Answers the requests of one model instance.

    Args:
        settings: of the model.
        tokeniser: texts to tokens, called from several threads.
        decoder: logits to values.
        tensor_model: is called from several threads.
        add: adds to the metrics; called once for what arrived together, and once an execution.
        watch: takes the name of a gauge and where to read it.
        log: takes a line for the server's log.
    """

    def __init__(
        self,
        settings: Settings,
        tokeniser: Tokeniser,
        decoder: Decoder,
        tensor_model: TensorModel,
        *,
        add: Callable[[metrics.Counts], None],
        watch: Callable[[str, Callable[[], int]], None],
        log: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._tokeniser = tokeniser
        self._executor = Executor(settings, decoder, tensor_model)
        self._add = add
        self._log = log
        budget = Budget(settings.max_tokens, settings.max_batch_size, settings.packed)
        instances = max(1, settings.calls_in_flight - 1)  # one call waits for the first that is free
        self._queue = TextQueue(budget, settings.cache_size, settings.max_queue_size, instances)
        watch(metrics.WAITING_TEXTS, lambda: self._queue.waiting)
        watch(metrics.CACHE_ENTRIES, lambda: self._queue.cached)
        self._threads = [
            threading.Thread(target=self._serve, name=f"bert_text call {number}", daemon=True)
            for number in range(settings.calls_in_flight)
        ]
        self._threads.append(threading.Thread(target=self._end_waiting, name="bert_text timeouts", daemon=True))
        for thread in self._threads:
            thread.start()

    def submit(self, requests: Sequence[TextRequest]) -> list[TextRequest]:
        """Take requests in.

        Returns:
            Those that are settled by that (cached, refused, without texts), which are the caller's to answer. All
            others are answered through their ``respond``, maybe before this returns.
        """
        tally = Tally()
        tally.count(metrics.TEXTS, sum(len(request.texts) for request in requests))
        read = [(request, self._read(request, tally)) for request in requests]
        refused = [request for request, _ in read if request.failure is not None]
        settled, hits = self._queue.add((request, pairs) for request, pairs in read if request.failure is None)
        if self._settings.cache_size:
            tally.count(metrics.CACHE_HITS, hits)
        settled = refused + settled
        _count_settled(settled, tally)
        self._add(tally)
        return settled

    def close(self) -> None:
        """Fail what waits, end the threads."""
        self._respond(self._queue.close(), Tally())
        for thread in self._threads:
            thread.join(CLOSE_TIMEOUT_S)

    def _read(self, request: TextRequest, tally: Tally) -> list[tuple[bytes, str]]:
        """Digest and string of each text; fails the request at its first bad one."""
        read = []
        for index, raw in enumerate(request.texts):
            decoded = texts.read(raw, self._settings.max_text_bytes)
            if isinstance(decoded, BadText):
                tally.count(metrics.REJECTED, 1, decoded.reason)
                request.fail(_invalid(decoded).at(index))
                break
            read.append((digest(raw), decoded))
        return read

    def _serve(self) -> None:
        """What each thread does until the queue is closed."""
        while (work := self._queue.take()) is not None:
            self._respond(work.settled, Tally())
            if work.to_read:
                self._tokenise(work.to_read)
            elif work.to_compute:
                self._compute(work.to_compute)
                self._queue.computed(work.call)

    def _end_waiting(self) -> None:
        """Tells requests that they are too late, when they are: the other threads may all be computing then."""
        while (late := self._queue.late()) is not None:
            self._respond(late, Tally())

    def _tokenise(self, waiting: Sequence[Text]) -> None:
        encoded = self._encode([text.decoded for text in waiting])
        for text, tokens in zip(waiting, encoded, strict=True):
            if isinstance(tokens, Tokens):
                text.tokens = tokens
                continue
            tally = Tally()
            if isinstance(tokens, BadText):
                settled = self._queue.finish([(text, _invalid(tokens))])
                tally.count(metrics.REJECTED, len(settled), tokens.reason)
            else:
                settled = self._queue.finish([(text, tokens)])
            self._respond(settled, tally)
        self._queue.read(waiting)

    def _encode(self, decoded: Sequence[str]) -> list[Tokens | BadText | Failure]:
        """Tokens, or why there are none, for each; what the tokenizer cannot bear is no other text's fault."""
        try:
            return list(self._tokeniser.encode(decoded))
        except BaseException as error:  # noqa: BLE001 -- a panic in `tokenizers` is no Exception; the thread must live
            if len(decoded) > 1:
                return [outcome for text in decoded for outcome in self._encode([text])]
            return [self._unexpected(error)]

    def _compute(self, group: Sequence[Text]) -> None:
        """One execution."""
        started_s = time.monotonic()
        self._respond(self._queue.fail(self._cancelled(group, started_s), GONE), Tally())
        group = self._queue.wanted(group)
        if not group:
            return
        rows = [text.tokens for text in group if text.tokens is not None]
        called_s = time.monotonic()
        try:
            outcomes = self._executor.compute(rows, _timeout_us(group))
        except BaseException as error:  # noqa: BLE001 -- the thread must live, and its requests must hear of it
            outcomes = [self._unexpected(error)] * len(group)
        tally = Tally()
        tally.count(metrics.COMPUTE_US, int((time.monotonic() - called_s) * 1e6))
        tally.count(metrics.QUEUE_US, sum(int((started_s - text.arrived_s) * 1e6) for text in group))
        _count_execution(rows, tally)
        settled = self._queue.finish(zip(group, outcomes, strict=True))
        if self._settings.cache_size:
            _count_cache(group, outcomes, tally)
        self._respond(settled, tally)

    def _cancelled(self, group: Sequence[Text], now_s: float) -> list[TextRequest]:
        """Requests of an execution that nobody waits for any more."""
        requests = {id(request): request for text in group for request, _ in text.places[: text.shared]}
        return [
            request
            for request in requests.values()
            if now_s - request.received_s > ASK_CANCELLED_AFTER_S and not request.settled and request.is_cancelled()
        ]

    def _unexpected(self, error: BaseException) -> Failure:
        self._log(f"{self._settings.model}: {type(error).__name__}: {error}")
        return Failure(INTERNAL, f"the text could not be answered: {type(error).__name__}: {error}", of_text=True)

    def _respond(self, settled: Sequence[TextRequest], tally: Tally) -> None:
        """Answer requests; counts them, with what was counted before."""
        _count_settled(settled, tally)
        if tally:
            self._add(tally)
        for request in settled:
            self._send(request)

    def _send(self, request: TextRequest) -> None:
        try:
            request.respond(request)
        except Exception as error:  # noqa: BLE001 -- others wait for theirs
            self._log(f"{self._settings.model}: an answer was not sent: {type(error).__name__}: {error}")


def _invalid(bad: BadText) -> Failure:
    return Failure(INVALID_ARG, bad.message, of_text=True, outcome="invalid")


def _count_settled(settled: Sequence[TextRequest], tally: Tally) -> None:
    now_s = time.monotonic()
    for request in settled:
        if request.failure is None:
            tally.answered(int((now_s - request.received_s) * 1e6))
            if truncated := request.truncated:
                tally.count(metrics.TRUNCATED, truncated)
        else:
            tally.count(metrics.REQUESTS, 1, request.failure.outcome)


def _count_execution(rows: Sequence[Tokens], tally: Tally) -> None:
    tokens = sum(map(len, rows))
    tally.count(metrics.EXECUTIONS, 1)
    tally.count(metrics.EXECUTED_TEXTS, len(rows))
    tally.count(metrics.TOKENS, tokens)
    tally.count(metrics.PADDING_TOKENS, len(rows) * max(map(len, rows)) - tokens)


def _count_cache(group: Sequence[Text], outcomes: Sequence[Answer | Failure], tally: Tally) -> None:
    waited = [len(text.places) for text, outcome in zip(group, outcomes, strict=True) if isinstance(outcome, Answer)]
    tally.count(metrics.CACHE_MISSES, len(waited))
    tally.count(metrics.CACHE_HITS, sum(waited) - len(waited))


def _timeout_us(group: Sequence[Text]) -> int:
    """Microseconds the call may wait: as long as the most patient of its requests waits; 0 = for ever."""
    places = [place for text in group for place in text.places[: text.shared]]
    deadlines = [request.deadline_s for request, _ in places if not request.settled]
    if not deadlines or None in deadlines:
        return 0
    latest_s = max(deadline for deadline in deadlines if deadline is not None)
    return max(1, int((latest_s - time.monotonic()) * 1e6))
