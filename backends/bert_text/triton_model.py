"""Wires a text model to Triton: load, execute, unload.

``execute`` does not wait for the tensor model. What can be answered at once (from the cache, or with a refusal) it
returns; for every other request it returns None, and a thread of the scheduler answers later through the request's
response sender (Triton allows that since release 24.06). So Triton hands over requests as they come, its own queue
stays empty, and the time it counts for this model ends with ``execute``: ``metrics.py`` has the whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .decode import TEXT, Decoder
from .metrics import Metrics
from .reply import Reply
from .scheduler import Scheduler
from .settings import Settings
from .tensor_model import TensorModel, triton_error
from .text_request import TextRequest
from .tokenise import Tokeniser
from .tracing import Parent, spans, tracer
from .version_folder import check_tensors, read_labels, tensors, tokenizer_path


class TritonPythonModel:
    """One instance of a text model, in a process of its own."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Add the inputs and outputs the task has, or refuse a config that cannot be served.

        Without this Triton would call a model READY that has no inputs.
        """
        config = auto_complete_model_config.as_dict()
        settings = _explained(config, Settings.from_model_config, config)
        labels = _explained(config, read_labels, Path(pb_utils.get_model_dir()))
        inputs, outputs = tensors(settings.task, len(labels))
        for tensor in inputs:
            auto_complete_model_config.add_input(tensor)
        for tensor in outputs:
            auto_complete_model_config.add_output(tensor)
        auto_complete_model_config.set_dynamic_batching()
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's files; calls no model (the tensor model may load after this one).

        Raises:
            pb_utils.TritonModelException: the model cannot be served; says why.
        """
        config = json.loads(args["model_config"])
        _explained(config, self._load, config, args)

    def _load(self, config: dict[str, Any], args: dict[str, str]) -> None:
        self._settings = settings = Settings.from_model_config(config)
        folder = Path(args["model_repository"]) / args["model_version"]
        labels = read_labels(folder)
        check_tensors(config, settings.task, len(labels))
        tokeniser = Tokeniser(
            tokenizer_path(folder), settings.max_length, truncate=settings.over_long_text == "truncate"
        )
        self._decoder = Decoder(settings.task, labels, settings.activation)
        self._metrics = Metrics(pb_utils, {"model": args["model_name"], "version": args["model_version"]})
        # Version N of the text model calls version N of the tensor model: an answer never mixes two exports.
        self._tensor_model = TensorModel(settings.tensor_model, int(args["model_version"]), settings.tensor_output)
        self._tracer = tracer(pb_utils.Logger.log_error)
        self._scheduler = Scheduler(
            settings,
            tokeniser,
            self._decoder,
            self._tensor_model,
            add=self._metrics.add,
            watch=self._metrics.watch,
            log=pb_utils.Logger.log_error,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Take in what arrived: a response, or None where it comes later, for each request."""
        received_s = time.monotonic()
        batch = [self._text_request(request, received_s) for request in requests]
        settled = set(map(id, self._scheduler.submit(batch)))
        return [self._response(text_request) if id(text_request) in settled else None for text_request in batch]

    def finalize(self) -> None:
        """End the threads, take this instance's cache out of the metrics.

        Triton unloads a model once all its requests have their response, so nothing should be waiting; what is, fails.
        """
        self._scheduler.close()
        self._metrics.close()
        if self._tracer is not None:
            self._tracer.close()

    def _text_request(self, request: Any, received_s: float) -> TextRequest:
        """The texts and the deadline of a Triton request, and the way back."""
        texts = pb_utils.get_input_tensor_by_name(request, TEXT).as_numpy().ravel().tolist()
        # As in Triton's own queue policy, a caller may have less patience than the model, and not more.
        timeouts_s = (request.timeout() / 1e6, self._settings.queue_timeout_ms / 1e3)
        timeout_s = min((timeout_s for timeout_s in timeouts_s if timeout_s), default=None)
        reply = Reply(request)
        return TextRequest(
            texts=texts,
            output_names=request.requested_output_names() or self._settings.task.output_names,
            received_s=received_s,
            deadline_s=None if timeout_s is None else received_s + timeout_s,
            is_cancelled=reply.is_cancelled,
            respond=self._respond_to(request, reply),
        )

    def _respond_to(self, request: Any, reply: Reply) -> Callable[[TextRequest], None]:
        """What answers a request later, and traces it if its caller does."""
        parent = None
        if self._tracer is not None:
            parent = Parent.of(request.trace().get_context()) or Parent.of(request.parameters())
        if self._tracer is None or parent is None:
            return lambda settled: reply.send(self._response(settled))
        tracer, arrived_ns = self._tracer, time.time_ns()

        def respond(settled: TextRequest) -> None:
            reply.send(self._response(settled))
            # Whoever is answered is answered by the thread whose call of the tensor model gave the last text; one that
            # failed may be told by a thread that computed something else.
            call = self._tensor_model.last_call if settled.failure is None else None
            tracer.add(spans(parent, arrived_ns, call, settled.failure.code if settled.failure else ""))

        return respond

    def _response(self, request: TextRequest) -> Any:
        if request.failure is not None:
            return pb_utils.InferenceResponse(output_tensors=[], error=triton_error(request.failure))
        outputs = self._decoder.outputs(request.values(self._decoder.num_labels), request.output_names)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _explained(config: dict[str, Any], step: Any, *arguments: Any) -> Any:
    """Run a loading step; what it objects to becomes one line for the server's log."""
    try:
        return step(*arguments)
    except (ValueError, OSError) as error:
        raise pb_utils.TritonModelException(f"model {config.get('name')} cannot be loaded: {error}") from None
