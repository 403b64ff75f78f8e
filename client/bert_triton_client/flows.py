"""What both clients do, without doing I/O: generators that yield steps and are sent their outcome.

    flow = flows.classify(…)          a generator
    step = next(flow)                 Infer, Ask or Pause: something to do
    step = flow.send(outcome)         … or flow.throw(error), until StopIteration carries the result

`client.Client` does the steps with blocking calls, `aio.AsyncClient` with awaited ones. Everything
between the steps is here, once: retries, deadlines, splitting, who gets which error.
"""

from __future__ import annotations

import copy
import enum
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from . import contract, wire
from .answers import Classification, Health, ModelInfo, ModelMetadata, ModelStatus, ServerInfo
from .config import ClientConfig, check_timeout, check_traceparent
from .errors import (
    AccessDeniedError,
    BatchTooLargeError,
    BertTritonError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidConfigError,
    InvalidRequestError,
    InvalidTextError,
    ModelNotFoundError,
    NotReadyError,
    OverloadedError,
    WrongProtocolError,
)
from .model_statistics import ModelStatistics
from .planning import RETRYABLE, Chunk, Deadline, Planner, encode_text, retry_pause_s

if TYPE_CHECKING:
    import numpy as np

OnError = Literal["raise", "return"]
# A canary that takes longer than this is tried again: the model may just have been reloaded.
_CANARY_TIMEOUT_S = 10.0
_POLL_PAUSE_S = 0.1
# Waiting does not help against these.
_HOPELESS = (AccessDeniedError, ClientClosedError, InvalidConfigError, WrongProtocolError)


class Question(enum.Enum):
    """What a server can be asked besides inference."""

    LIVE = enum.auto()
    READY = enum.auto()
    MODEL_READY = enum.auto()
    CONFIG = enum.auto()
    INDEX = enum.auto()
    STATISTICS = enum.auto()
    SERVER = enum.auto()
    METADATA = enum.auto()


class Infer(NamedTuple):
    """Step: run an inference; the outcome is an `InferAnswer`."""

    request: wire.InferRequest
    timeout_s: float
    traceparent: str | None = None


class Ask(NamedTuple):
    """Step: ask about the server or a model; the outcome is a bool for the first three, else JSON."""

    question: Question
    timeout_s: float
    model: str = ""
    version: str = ""


class Pause(NamedTuple):
    """Step: wait; no outcome."""

    seconds: float


Step = Infer | Ask | Pause
_T = TypeVar("_T")
Flow = Generator[Step, Any, _T]
Answers = list[Classification | InvalidTextError]


class Flows:
    """The flows of one client, and the model configs it has learnt.

    Safe to use from several threads: flows share only the dictionary of configs, whose single reads and
    writes are atomic; two threads may ask for the same config, to no harm.
    """

    def __init__(self, config: ClientConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._models: dict[tuple[str, str], ModelInfo] = {}
        self._traceparent: str | None = None

    def of_call(self) -> Flows:
        """These flows for one call, made in the caller's own thread or task: their inferences carry its trace.

        Raises:
            InvalidConfigError: `ClientConfig.traceparent` returned something else.
        """
        if self.config.traceparent is None:
            return self
        flows = copy.copy(self)  # what is learnt about models remains common
        flows._traceparent = check_traceparent(self.config.traceparent())
        return flows

    # --- Deadlines and retries ---

    def call_deadline(self, timeout_s: float | None) -> Deadline | None:
        """The deadline of a whole call; None if its requests have one each."""
        check_timeout("timeout_s", timeout_s)
        limit_s = self.config.timeout_s if timeout_s is None else timeout_s
        return None if limit_s is None else Deadline(limit_s, self._clock)

    def _request_deadline(self, call: Deadline | None) -> Deadline:
        return call or Deadline(self.config.request_timeout_s, self._clock)

    def _retrying(
        self, make_step: Callable[[float], Step], deadline: Deadline, what: str, patient: bool = False
    ) -> Flow[Any]:
        attempt = 0
        while True:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                raise deadline.exceeded(what)
            try:
                return (yield make_step(remaining_s))
            except DeadlineExceededError as error:
                if deadline.remaining_s() > 0:  # a gateway's deadline, not ours
                    raise
                raise deadline.exceeded(what) from error.__cause__
            except RETRYABLE as error:
                if deadline.remaining_s() <= 0:
                    raise deadline.exceeded(what) from error
                pause_s = retry_pause_s(self.config, attempt)
                last = attempt >= self.config.max_retries and not (patient and isinstance(error, OverloadedError))
                if last or pause_s >= deadline.remaining_s():
                    raise
            attempt += 1
            yield Pause(pause_s)

    def _ask(self, question: Question, deadline: Deadline, model: str = "", version: str = "") -> Flow[Any]:
        what = f"{question.name.lower()} {model}".strip() + f" at {self.config.endpoint}"
        return self._retrying(lambda left_s: Ask(question, left_s, model, version), deadline, what)

    def _infer(self, request: wire.InferRequest, deadline: Deadline, patient: bool = False) -> Flow[wire.InferAnswer]:
        what = f"model {request.model!r} at {self.config.endpoint}"
        return self._retrying(lambda left_s: Infer(request, left_s, self._traceparent), deadline, what, patient)

    # --- Models ---

    def model_info(self, model: str | None, version: str | int | None, call: Deadline | None) -> Flow[ModelInfo]:
        """The config of a model, asked for once."""
        name, number = self.target(model, version)
        if (name, number) not in self._models:
            config = yield from self._ask(Question.CONFIG, self._request_deadline(call), name, number)
            self._models[name, number] = ModelInfo.from_config(config.get("config", config))
        return self._models[name, number]

    def target(self, model: str | None, version: str | int | None) -> tuple[str, str]:
        """The model's name, and its version as the protocols write it: "" for none.

        Raises:
            InvalidRequestError: the version is not a number.
        """
        number = "" if version is None else str(version)
        if number and not (number.isascii() and number.isdigit() and int(number) > 0):
            raise InvalidRequestError(f"version {version!r}, expected a whole number above 0 or None")
        name = self.config.model if model is None else model
        if not isinstance(name, str) or not name:
            raise InvalidRequestError(f"model {model!r}, expected the name of a model")
        return name, number

    def text_model(
        self, task: str, model: str | None, version: str | int | None, call: Deadline | None
    ) -> Flow[ModelInfo]:
        """The config of a model that must do ``task``."""
        info = yield from self.model_info(model, version, call)
        found = {tensor.name for tensor in info.inputs} >= {tensor.name for tensor in contract.TASKS[task].inputs}
        if info.task not in (task, None) or not found:
            does = f"does {info.task}" if info.task else "takes tensors " + ", ".join(t.name for t in info.inputs)
            raise InvalidRequestError(
                f"model {info.name!r} {does}, not {task}: name a text model, or call it with infer()"
            )
        return info

    # --- Text ---

    def planner(self, info: ModelInfo) -> Planner:
        """What splits texts into requests for a model."""
        limit = max(1, info.max_batch_size)
        wanted = self.config.max_request_texts
        return Planner(limit if wanted is None else min(limit, wanted), self.config.max_request_bytes)

    def classify_text(
        self,
        text: str,
        task: str,
        model: str | None,
        version: str | int | None,
        *,
        call: Deadline | None,
        on_error: OnError,
    ) -> Flow[Classification | InvalidTextError]:
        """The answer to one text."""
        info = yield from self.text_model(task, model, version, call)
        chunk = Chunk(0, (encode_text(text, 0),))
        answers = yield from self.classify(info, version, chunk, call=call, on_error=on_error)
        return answers[0]

    def classify(
        self,
        info: ModelInfo,
        version: str | int | None,
        chunk: Chunk,
        *,
        call: Deadline | None,
        on_error: OnError,
        patient: bool = False,
    ) -> Flow[Answers]:
        """The answers to one chunk, in its order; a bad text is asked about once and left out after.

        ``patient`` is for calls of many requests: it is most likely these that fill the model's queue,
        so a full queue is tried again until the deadline instead of `ClientConfig.max_retries` times.

        Raises:
            InvalidTextError: with ``on_error="raise"``; ``index`` counts in the caller's texts.
        """
        answers: list[Classification | InvalidTextError | None] = [None] * len(chunk.texts)
        waiting: list[tuple[int, bytes]] = []
        fatal: InvalidTextError | None = None
        for place, text in enumerate(chunk.texts):
            if isinstance(text, bytes):
                waiting.append((place, text))
            elif on_error == "raise":
                fatal = text
                break  # but ask about the texts before it: the first bad one is to be raised
            else:
                answers[place] = text
        number = self.target(info.name, version)[1]
        while waiting:
            try:
                texts = [text for _, text in waiting]
                found = yield from self._classify_texts(info, number, texts, self._request_deadline(call), patient)
            except InvalidTextError as error:
                if error.index >= len(waiting):
                    raise
                place, _ = waiting.pop(error.index)
                moved = _moved(error, chunk.start + place)
                if on_error == "raise":
                    raise moved from error.__cause__
                answers[place] = moved
                continue
            for (place, _), answer in zip(waiting, found, strict=True):
                answers[place] = answer
            break
        if fatal is not None:
            raise fatal
        return [answer for answer in answers if answer is not None]

    def _classify_texts(
        self, info: ModelInfo, number: str, texts: Sequence[bytes], deadline: Deadline, patient: bool
    ) -> Flow[list[Classification]]:
        request = wire.encode_texts(info.name, number, texts, batched=info.max_batch_size > 0)
        try:
            answer = yield from self._infer(request, deadline, patient)
        except BatchTooLargeError:
            # The model was loaded again with a smaller max_batch_size: learn it, and go on in halves.
            self._models.pop((info.name, number), None)
            if len(texts) == 1:
                raise
            return (yield from self._classify_halves(info, number, texts, deadline, patient))
        return wire.decode_classifications(answer, len(texts))

    def _classify_halves(
        self, info: ModelInfo, number: str, texts: Sequence[bytes], deadline: Deadline, patient: bool
    ) -> Flow[list[Classification]]:
        middle = len(texts) // 2
        first = yield from self._classify_texts(info, number, texts[:middle], deadline, patient)
        try:
            second = yield from self._classify_texts(info, number, texts[middle:], deadline, patient)
        except InvalidTextError as error:
            raise _moved(error, middle + error.index) from error.__cause__
        return first + second

    # --- Tensors ---

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        version: str | int | None,
        outputs: Sequence[str],
        call: Deadline | None,
    ) -> Flow[dict[str, np.ndarray[Any, Any]]]:
        """One inference of any model: arrays in, arrays out."""
        name, number = self.target(model, version)
        tensors = tuple(wire.encode_array(input_name, array) for input_name, array in inputs.items())
        request = wire.InferRequest(name, number, tensors, tuple(outputs))
        answer = yield from self._infer(request, self._request_deadline(call))
        return {output: wire.decode_array(tensor) for output, tensor in answer.outputs.items()}

    # --- The server ---

    def ask_bool(self, question: Question, model: str, version: str | int | None, call: Deadline | None) -> Flow[bool]:
        """Whether the server is live or ready, or a model is; no retries, so that the answer is about now."""
        number = self.target(model or None, version)[1]
        answer = yield Ask(question, self._request_deadline(call).remaining_s(), model, number)
        return bool(answer)

    def models(self, call: Deadline | None) -> Flow[list[ModelStatus]]:
        """Every version of every model in the server's repository."""
        return ModelStatus.from_index((yield from self._ask(Question.INDEX, self._request_deadline(call))))

    def statistics(self, model: str | None, call: Deadline | None) -> Flow[list[ModelStatistics]]:
        """What the loaded versions of one model, or of all, have done."""
        answer = yield from self._ask(Question.STATISTICS, self._request_deadline(call), model or "")
        return ModelStatistics.from_json(answer)

    def server_info(self, call: Deadline | None) -> Flow[ServerInfo]:
        """What the server says of itself."""
        return ServerInfo.from_json((yield from self._ask(Question.SERVER, self._request_deadline(call))))

    def model_metadata(
        self, model: str | None, version: str | int | None, call: Deadline | None
    ) -> Flow[ModelMetadata]:
        """What a model says of itself."""
        name, number = self.target(model, version)
        answer = yield from self._ask(Question.METADATA, self._request_deadline(call), name, number)
        return ModelMetadata.from_json(answer)

    def health(self, model: str | None, call: Deadline | None) -> Flow[Health]:
        """What a look at the server finds; a fault is part of the answer."""
        deadline = self._request_deadline(call)
        live = ready = False
        canary_ms = None
        try:
            live = yield Ask(Question.LIVE, deadline.remaining_s())
            ready = yield Ask(Question.READY, deadline.remaining_s())
            if ready:
                canary_ms = yield from self._canary(model, deadline)
        except ClientClosedError:
            raise
        except BertTritonError as error:
            return Health(live, ready, None, str(error))
        return Health(live, ready, canary_ms, "" if ready else "the server says that it is not ready")

    def wait_until_ready(self, timeout_s: float, model: str | None) -> Flow[None]:
        """Returns once the server is ready and the model answers a canary.

        Raises:
            NotReadyError: it did not within ``timeout_s``.
        """
        check_timeout("timeout_s", timeout_s)
        deadline = Deadline(timeout_s, self._clock)
        name = self.target(model, None)[0]
        reason: BertTritonError | None = None
        while True:
            left_s = max(0.001, deadline.remaining_s())
            try:
                if (yield Ask(Question.READY, left_s)):
                    self._models.pop((name, ""), None)  # what was learnt from the server before this one
                    yield from self._canary(name, Deadline(min(left_s, _CANARY_TIMEOUT_S), self._clock))
                    return
                reason = NotReadyError("the server says that it is not ready")
            except _HOPELESS:
                raise
            except DeadlineExceededError as error:
                reason = reason or error  # the last try may just have been too short
            except BertTritonError as error:
                reason = error
            if deadline.remaining_s() <= _POLL_PAUSE_S:
                raise NotReadyError(
                    f"model {name!r} at {self.config.endpoint} is not ready after {timeout_s:g} s: {reason}"
                ) from reason
            yield Pause(_POLL_PAUSE_S)

    def _canary(self, model: str | None, deadline: Deadline) -> Flow[float]:
        """Milliseconds of a real inference."""
        info = yield from self.model_info(model, None, deadline)
        if not info.inputs:
            raise ModelNotFoundError(f"model {info.name!r} has no inputs")
        request = canary_request(info)
        started = self._clock()
        yield Infer(request, max(0.001, deadline.remaining_s()), self._traceparent)
        return (self._clock() - started) * 1000


def canary_request(info: ModelInfo) -> wire.InferRequest:
    """The smallest valid inference of a model: one row, any open dimension 1, ones or a short text.

    The text is a new one each time: one that the model has answered before would come from its cache, and say nothing
    about the process that computes.
    """
    import numpy as np

    text = f"ready {random.randrange(10**6)}".encode()
    tensors = []
    for tensor in info.inputs:
        shape = ((1,) if info.max_batch_size else ()) + tuple(abs(dim) for dim in tensor.dims)
        if tensor.datatype == "BYTES":
            array: np.ndarray[Any, Any] = np.full(shape, text, dtype=object)
        else:
            array = np.ones(shape, dtype=wire.numpy_dtype(tensor.datatype))
        tensors.append(wire.encode_array(tensor.name, array))
    return wire.InferRequest(info.name, "", tuple(tensors))


def _moved(error: InvalidTextError, index: int) -> InvalidTextError:
    moved = InvalidTextError(f"text {index}: {error.reason}", index=index, reason=error.reason)
    moved.__cause__ = error.__cause__
    return moved
