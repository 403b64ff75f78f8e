"""The synchronous client: does the steps of `flows.py` with blocking calls.

Owns the threads that keep several requests under way, and nothing of what a request is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import transports
from .answers import Classification, Health, ModelInfo, ModelMetadata, ModelStatus, ServerInfo
from .config import ClientConfig, ClientOptions
from .errors import BertTritonError, ClientClosedError, InvalidTextError
from .flows import Answers, Ask, Flow, Flows, Infer, OnError, Question
from .model_statistics import ModelStatistics

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self, Unpack

_T = TypeVar("_T")
_TASK = "text-classification"


class Client:
    """Asks a Triton server that serves text models; see `ClientConfig` for the options.

        with Client("grpc://localhost:8001") as client:
            client.classify("I love this movie")     # Classification(label='POSITIVE', score=0.998, …)

    Thread-safe: share one among all threads. Not to be shared over a fork. Making one does no I/O;
    a server that is lost and comes back is found again by the same client.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self.config = ClientConfig(url, **options)
        self._flows = Flows(self.config)
        self._transport = transports.make_transport(self.config)
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = threading.Event()

    # --- Text ---

    @overload
    def classify(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but means one text
        self,
        texts: str,
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> Classification: ...
    @overload
    def classify(
        self,
        texts: Iterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Classification]: ...
    @overload
    def classify(
        self,
        texts: str | Iterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["return"],
    ) -> Classification | InvalidTextError | Answers: ...
    def classify(
        self,
        texts: str | Iterable[str],
        *,
        model: str | None = None,
        version: str | int | None = None,
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Classifies one text, or any number in their order.

        Args:
            texts: one text, or an iterable of texts.
            model: a text model; the client's own if None.
            version: of the model; the server's choice if None.
            timeout_s: for the whole call; the client's own if None.
            on_error: "raise" the first `InvalidTextError`, or "return" each in the place of its answer.

        Returns:
            A `Classification` for one text, a list for an iterable.

        Raises:
            InvalidTextError: a text cannot be answered; ``index`` is its position.
            ModelNotFoundError: the server has no such model or version.
            DeadlineExceededError: no answer in time.
            ServerUnreachableError: no server, after all retries.
        """
        if isinstance(texts, str):
            call = self._flows.call_deadline(timeout_s)
            flow = self._flows.of_call().classify_text(texts, _TASK, model, version, call=call, on_error=on_error)
            return self._run(flow)
        return list(self.classify_iter(texts, model=model, version=version, timeout_s=timeout_s, on_error=on_error))

    @overload
    def classify_iter(
        self,
        texts: Iterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> Generator[Classification, None, None]: ...
    @overload
    def classify_iter(
        self,
        texts: Iterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["return"],
    ) -> Generator[Classification | InvalidTextError, None, None]: ...
    def classify_iter(
        self,
        texts: Iterable[str],
        *,
        model: str | None = None,
        version: str | int | None = None,
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> Generator[Any, None, None]:
        """Like `classify`, an answer at a time: for texts without end, in bounded memory.

        Reads ahead by a few requests; an answer comes when the texts of its request have been read.
        """
        call = self._flows.call_deadline(timeout_s)
        flows = self._flows.of_call()
        info: ModelInfo = self._run(flows.text_model(_TASK, model, version, call))
        requests = (
            flows.classify(info, version, chunk, call=call, on_error=on_error, patient=True)
            for chunk in flows.planner(info).split(texts)
        )
        for answers in self._in_order(requests):
            yield from answers

    # --- Tensors ---

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Runs any model once: arrays in, arrays out, the batch dimension included.

        Args:
            model: its name.
            inputs: an array for every input of the model.
            version: the server's choice if None.
            outputs: the outputs to ask for; all if empty.
            timeout_s: for the whole call; the client's own if None.

        Raises:
            InvalidTensorError: a name, dtype or shape that the model does not take.
            BatchTooLargeError: more rows than the model's ``max_batch_size``.
        """
        call = self._flows.call_deadline(timeout_s)
        return self._run(self._flows.of_call().infer(model, inputs, version, outputs, call))

    # --- The server ---

    def is_live(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers at all."""
        return self._ask(Question.LIVE, "", None, timeout_s)

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server says that it and its models are ready; `health` asks for an inference."""
        return self._ask(Question.READY, "", None, timeout_s)

    def is_model_ready(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> bool:
        """Whether the server says that a model is ready; `health` asks for an inference."""
        return self._ask(Question.MODEL_READY, model or self.config.model, version, timeout_s)

    def model_info(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> ModelInfo:
        """What a model takes and gives; asked for once and remembered."""
        return self._run(self._flows.model_info(model, version, self._flows.call_deadline(timeout_s)))

    def model_metadata(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> ModelMetadata:
        """What a model says of itself, its ready versions included; `model_info` says more, where it is allowed."""
        return self._run(self._flows.model_metadata(model, version, self._flows.call_deadline(timeout_s)))

    def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The server's name, version and protocol extensions."""
        return self._run(self._flows.server_info(self._flows.call_deadline(timeout_s)))

    def models(self, *, timeout_s: float | None = None) -> list[ModelStatus]:
        """Every version of every model in the server's repository."""
        return self._run(self._flows.models(self._flows.call_deadline(timeout_s)))

    def statistics(self, model: str | None = None, *, timeout_s: float | None = None) -> list[ModelStatistics]:
        """What the loaded models, or the versions of one, have done."""
        return self._run(self._flows.statistics(model, self._flows.call_deadline(timeout_s)))

    def health(self, model: str | None = None, *, timeout_s: float | None = None) -> Health:
        """What a look at the server and a real inference find; faults are in the answer, not raised."""
        return self._run(self._flows.of_call().health(model, self._flows.call_deadline(timeout_s)))

    def wait_until_ready(self, timeout_s: float, *, model: str | None = None) -> None:
        """Returns once the server is ready and the model has answered an inference.

        Raises:
            NotReadyError: it did not within ``timeout_s``; the message says what was missing.
        """
        self._run(self._flows.of_call().wait_until_ready(timeout_s, model))

    # --- Doing the steps ---

    def _ask(self, question: Question, model: str, version: str | int | None, timeout_s: float | None) -> bool:
        return self._run(self._flows.ask_bool(question, model, version, self._flows.call_deadline(timeout_s)))

    def _run(self, flow: Flow[_T], stopped: threading.Event | None = None) -> _T:
        outcome: Any = None
        error: BertTritonError | None = None
        try:
            while True:
                step = flow.send(outcome) if error is None else flow.throw(error)
                outcome = error = None
                try:
                    if stopped is not None and stopped.is_set():
                        raise ClientClosedError("another request of this call failed")
                    outcome = self._do(step)
                except BertTritonError as exc:
                    error = exc
        except StopIteration as stop:
            return stop.value

    def _do(self, step: Any) -> Any:
        if self._closed.is_set():
            raise ClientClosedError("the client is closed: make a new one")
        if isinstance(step, Infer):
            return self._transport.infer(step)
        if isinstance(step, Ask):
            return self._transport.ask(step)
        self._closed.wait(step.seconds)  # a pause that closing ends
        return None

    def _in_order(self, flows: Iterator[Flow[_T]]) -> Iterator[_T]:
        """Runs flows side by side and yields their results in order, a bounded number ahead."""
        first = next(flows, None)
        second = None if first is None else next(flows, None)
        if first is not None and second is None:  # one request: no thread is faster than none
            yield self._run(first)
        if first is None or second is None:
            return
        pending: deque[Future[_T]] = deque()
        stopped = threading.Event()
        try:
            for flow in (first, second):
                pending.append(self._submit(flow, stopped))
            for flow in flows:
                pending.append(self._submit(flow, stopped))
                while pending and (len(pending) >= 2 * self.config.max_in_flight or pending[0].done()):
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
        finally:
            stopped.set()
            for future in pending:
                future.cancel()

    def _submit(self, flow: Flow[_T], stopped: threading.Event) -> Future[_T]:
        with self._lock:
            if self._closed.is_set():
                raise ClientClosedError("the client is closed: make a new one")
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.config.max_in_flight, thread_name_prefix="bert-triton")
            return self._threads.submit(self._run, flow, stopped)

    # --- Closing ---

    def close(self) -> None:
        """Closes the connections; calls under way raise `ClientClosedError`. Closing twice is fine."""
        with self._lock:
            self._closed.set()
            threads, self._threads = self._threads, None
        self._transport.close()
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.url!r}, model={self.config.model!r})"


def _result(future: Future[_T]) -> _T:
    try:
        return future.result()
    except CancelledError as exc:
        raise ClientClosedError("the client was closed during the call") from exc
