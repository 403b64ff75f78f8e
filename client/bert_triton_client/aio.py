"""The asynchronous client: does the steps of `flows.py` with awaited calls.

Owns the tasks that keep several requests under way, and nothing of what a request is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import transports
from .answers import Classification, Health, ModelInfo, ModelMetadata, ModelStatus, ServerInfo
from .config import ClientConfig, ClientOptions
from .errors import BertTritonError, ClientClosedError, InvalidRequestError, InvalidTextError
from .flows import Answers, Ask, Flow, Flows, Infer, OnError, Question
from .model_statistics import ModelStatistics
from .planning import Chunk, Planner

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self, Unpack

_T = TypeVar("_T")
_TASK = "text-classification"


class AsyncClient:
    """`client.Client` for asyncio: the same methods, awaited, with the same answers and errors.

        async with AsyncClient("grpc://localhost:8001") as client:
            await client.classify("I love this movie")

    Any number of tasks may share one. It belongs to the event loop of its first call.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self.config = ClientConfig(url, **options)
        self._flows = Flows(self.config)
        self._make_transport = transports.async_transport_class(self.config)
        self._transport: transports.AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_flight = asyncio.Semaphore(self.config.max_in_flight)
        self._closed = False

    # --- Text ---

    @overload
    async def classify(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but means one text
        self,
        texts: str,
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> Classification: ...
    @overload
    async def classify(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Classification]: ...
    @overload
    async def classify(
        self,
        texts: str | Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["return"],
    ) -> Classification | InvalidTextError | Answers: ...
    async def classify(
        self,
        texts: str | Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = None,
        version: str | int | None = None,
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Classifies one text, or any number in their order; see `client.Client.classify`."""
        if isinstance(texts, str):
            call = self._flows.call_deadline(timeout_s)
            flow = self._flows.of_call().classify_text(texts, _TASK, model, version, call=call, on_error=on_error)
            return await self._run(flow)
        options: dict[str, Any] = {"model": model, "version": version, "timeout_s": timeout_s, "on_error": on_error}
        return [answer async for answer in self.classify_iter(texts, **options)]

    @overload
    def classify_iter(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> AsyncGenerator[Classification, None]: ...
    @overload
    def classify_iter(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = ...,
        version: str | int | None = ...,
        timeout_s: float | None = ...,
        on_error: Literal["return"],
    ) -> AsyncGenerator[Classification | InvalidTextError, None]: ...
    async def classify_iter(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = None,
        version: str | int | None = None,
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> AsyncGenerator[Any, None]:
        """Like `classify`, an answer at a time; see `client.Client.classify_iter`."""
        call = self._flows.call_deadline(timeout_s)
        flows = self._flows.of_call()
        info: ModelInfo = await self._run(flows.text_model(_TASK, model, version, call))
        pending: deque[asyncio.Task[Answers]] = deque()
        try:
            async for chunk in _chunks(flows.planner(info), texts):
                flow = flows.classify(info, version, chunk, call=call, on_error=on_error, patient=True)
                pending.append(asyncio.create_task(self._run_limited(flow)))
                while pending and (len(pending) >= 2 * self.config.max_in_flight or pending[0].done()):
                    for answer in await pending.popleft():
                        yield answer
            while pending:
                for answer in await pending.popleft():
                    yield answer
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    # --- Tensors ---

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Runs any model once: arrays in, arrays out; see `client.Client.infer`."""
        call = self._flows.call_deadline(timeout_s)
        return await self._run(self._flows.of_call().infer(model, inputs, version, outputs, call))

    # --- The server ---

    async def is_live(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers at all."""
        return await self._ask(Question.LIVE, "", None, timeout_s)

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server says that it and its models are ready; `health` asks for an inference."""
        return await self._ask(Question.READY, "", None, timeout_s)

    async def is_model_ready(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> bool:
        """Whether the server says that a model is ready; `health` asks for an inference."""
        return await self._ask(Question.MODEL_READY, model or self.config.model, version, timeout_s)

    async def model_info(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> ModelInfo:
        """What a model takes and gives; asked for once and remembered."""
        return await self._run(self._flows.model_info(model, version, self._flows.call_deadline(timeout_s)))

    async def model_metadata(
        self, model: str | None = None, *, version: str | int | None = None, timeout_s: float | None = None
    ) -> ModelMetadata:
        """What a model says of itself, its ready versions included; `model_info` says more, where it is allowed."""
        return await self._run(self._flows.model_metadata(model, version, self._flows.call_deadline(timeout_s)))

    async def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The server's name, version and protocol extensions."""
        return await self._run(self._flows.server_info(self._flows.call_deadline(timeout_s)))

    async def models(self, *, timeout_s: float | None = None) -> list[ModelStatus]:
        """Every version of every model in the server's repository."""
        return await self._run(self._flows.models(self._flows.call_deadline(timeout_s)))

    async def statistics(self, model: str | None = None, *, timeout_s: float | None = None) -> list[ModelStatistics]:
        """What the loaded models, or the versions of one, have done."""
        return await self._run(self._flows.statistics(model, self._flows.call_deadline(timeout_s)))

    async def health(self, model: str | None = None, *, timeout_s: float | None = None) -> Health:
        """What a look at the server and a real inference find; faults are in the answer, not raised."""
        return await self._run(self._flows.of_call().health(model, self._flows.call_deadline(timeout_s)))

    async def wait_until_ready(self, timeout_s: float, *, model: str | None = None) -> None:
        """Returns once the server is ready and the model has answered; see `client.Client.wait_until_ready`."""
        await self._run(self._flows.of_call().wait_until_ready(timeout_s, model))

    # --- Doing the steps ---

    async def _ask(self, question: Question, model: str, version: str | int | None, timeout_s: float | None) -> bool:
        return await self._run(self._flows.ask_bool(question, model, version, self._flows.call_deadline(timeout_s)))

    async def _run_limited(self, flow: Flow[_T]) -> _T:
        async with self._in_flight:
            return await self._run(flow)

    async def _run(self, flow: Flow[_T]) -> _T:
        outcome: Any = None
        error: BertTritonError | None = None
        try:
            while True:
                step = flow.send(outcome) if error is None else flow.throw(error)
                outcome = error = None
                try:
                    outcome = await self._do(step)
                except BertTritonError as exc:
                    error = exc
        except StopIteration as stop:
            return stop.value

    async def _do(self, step: Any) -> Any:
        transport = self._connected()
        if isinstance(step, Infer):
            return await transport.infer(step)
        if isinstance(step, Ask):
            return await transport.ask(step)
        await asyncio.sleep(step.seconds)
        return None

    def _connected(self) -> transports.AsyncTransport:
        if self._closed:
            raise ClientClosedError("the client is closed: make a new one")
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._loop, self._transport = loop, self._make_transport(self.config)
        elif self._loop is not loop:
            raise InvalidRequestError("an AsyncClient belongs to the event loop of its first call: make one in each")
        return self._transport

    # --- Closing ---

    async def close(self) -> None:
        """Closes the connections; calls under way raise `ClientClosedError`. Closing twice is fine."""
        self._closed = True
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.url!r}, model={self.config.model!r})"


async def _chunks(planner: Planner, texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[Chunk]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            if chunk := planner.add(text):
                yield chunk
        if chunk := planner.finish():
            yield chunk
        return
    for chunk in planner.split(texts):
        yield chunk
