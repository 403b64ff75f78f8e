"""The tensor model behind a text model, called through Triton itself (BLS)."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from .tensors import Int64Array
from .text_request import CANCELLED, INTERNAL, INVALID_ARG, UNAVAILABLE, Failure, Outcome
from .tracing import Call

# Triton 2.51 gives an inner error its text and loses its code (every code reads INTERNAL), so the code is read
# from the text: queue full, queue time-out, a server that is ending, and a model that is not loaded (yet).
NOT_LOADED_MESSAGES = ("is not ready", "unknown model")
STOPPING_MESSAGES = ("server not ready", "server is stopping")
UNAVAILABLE_OUTCOMES: dict[str, Outcome] = {
    "exceeds maximum queue size": "queue_full",
    "request timeout expired": "timed_out",
    **dict.fromkeys((*STOPPING_MESSAGES, *NOT_LOADED_MESSAGES), "failed"),
}

# What Triton says when a process of the model is dead or hangs. It logs nothing of that, and it is for ever.
UNHEALTHY = "is not healthy"

# When a running server loads a new version of both models, the text model can be ready a moment before its tensor
# model: so long after its own load it waits for it. (Not while loading: Triton crashes at start if asked then.)
READY_TIMEOUT_S = 10.0
READY_POLL_S = 0.05


def failure_of(error: Any, model: str) -> Failure:
    """The failure an inner error means for the caller of the text model."""
    message = f"{model}: {error.message()}"
    if error.code() == pb_utils.TritonError.CANCELLED:
        return Failure(CANCELLED, message, outcome="cancelled")
    for words, outcome in UNAVAILABLE_OUTCOMES.items():
        if words in error.message().lower():
            return Failure(UNAVAILABLE, message, outcome=outcome)
    if error.code() == pb_utils.TritonError.UNAVAILABLE:
        return Failure(UNAVAILABLE, message)
    # Not the caller's fault whatever the code: this backend built the tensors.
    return Failure(INTERNAL, message)


def is_not_loaded(error: Any) -> bool:
    """Whether the model of an inner call was not there (yet)."""
    return any(words in error.message().lower() for words in NOT_LOADED_MESSAGES)


class TensorModel:
    """Calls one version of one model, for one of its outputs.

    Args:
        model: its name.
        version: its version.
        output: the output that is asked for.
    """

    def __init__(self, model: str, version: int, output: str) -> None:
        self._model = model
        self._version = version
        self._output = output
        self._wait_until_s = time.monotonic() + READY_TIMEOUT_S
        self._last = threading.local()
        # A model on a GPU would otherwise answer in GPU memory, which numpy cannot read.
        self._memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)

    def __call__(self, inputs: dict[str, Int64Array], timeout_us: int) -> npt.NDArray[Any] | Failure:
        """The output for ``inputs``, or why there is none.

        Args:
            inputs: int64[batch_size, sequence_length] by name.
            timeout_us: most microseconds to wait in the model's queue; 0 = no limit but its config's.
        """
        request = pb_utils.InferenceRequest(
            model_name=self._model,
            model_version=self._version,
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            requested_output_names=[self._output],
            timeout=timeout_us,
            preferred_memory=self._memory,
        )
        started_ns = time.time_ns()
        response = self._exec(request, timeout_us)
        self._last.call = Call(self._model, self._version, _rows(inputs), started_ns, time.time_ns())
        if response.has_error():
            failure = failure_of(response.error(), self._model)
            if UNHEALTHY in failure.message:
                pb_utils.Logger.log_error(failure.message)  # whoever watches the server reads it there
            return failure
        output = pb_utils.get_output_tensor_by_name(response, self._output)
        if output is None:
            return Failure(INTERNAL, f"{self._model} answered without {self._output}")
        return np.array(output.as_numpy())  # a copy: the response's memory goes back to Triton

    @property
    def last_call(self) -> Call | None:
        """The last call that the running thread made; None if it made none."""
        return getattr(self._last, "call", None)

    def _exec(self, request: Any, timeout_us: int) -> Any:
        """Triton's response; waits for a model that is not there yet."""
        response = request.exec()
        wait_until_s = min(self._wait_until_s, time.monotonic() + (timeout_us / 1e6 or READY_TIMEOUT_S))
        while response.has_error() and is_not_loaded(response.error()) and time.monotonic() < wait_until_s:
            time.sleep(READY_POLL_S)
            response = request.exec()
        return response


def _rows(inputs: dict[str, Int64Array]) -> int:
    return max(map(len, inputs.values()), default=0)


def triton_error(failure: Failure) -> Any:
    """``failure`` as Triton's error object."""
    codes = {
        INVALID_ARG: pb_utils.TritonError.INVALID_ARG,
        UNAVAILABLE: pb_utils.TritonError.UNAVAILABLE,
        INTERNAL: pb_utils.TritonError.INTERNAL,
        CANCELLED: pb_utils.TritonError.CANCELLED,
    }
    return pb_utils.TritonError(failure.message, codes[failure.code])
