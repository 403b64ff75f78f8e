"""gRPC, blocking and awaited: one channel a client, shared by all its threads or tasks.

Owns gRPC's messages, channels and errors. The only module that imports tritonclient.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from . import wire
from .config import ClientConfig, Endpoint, TLSConfig
from .errors import BertTritonError, ServerUnreachableError, UnexpectedAnswerError
from .faults import error_from_grpc
from .flows import Ask, Infer, Question
from .transports import closed, late, timeout_us, unreachable, untrusted, wrong_protocol

_PROBE_TIMEOUT_S = 1.0
# How gRPC says that a certificate was refused: signed by an unknown authority, or for another host.
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")

# What gRPC says when the caller's own time is up; in other words it is a gateway's.
_OWN_DEADLINE = "Deadline Exceeded"

# A channel waits up to two minutes before it tries a lost server again; retries are ours to pace.
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Channels to one address share a connection by default; a new client should mean a new one.
    ("grpc.use_local_subchannel_pool", 1),
)

# question: (method, request message, fields the request takes)
_QUESTIONS: Mapping[Question, tuple[str, str, tuple[str, ...]]] = {
    Question.LIVE: ("ServerLive", "ServerLiveRequest", ()),
    Question.READY: ("ServerReady", "ServerReadyRequest", ()),
    Question.MODEL_READY: ("ModelReady", "ModelReadyRequest", ("name", "version")),
    Question.CONFIG: ("ModelConfig", "ModelConfigRequest", ("name", "version")),
    Question.INDEX: ("RepositoryIndex", "RepositoryIndexRequest", ()),
    Question.STATISTICS: ("ModelStatistics", "ModelStatisticsRequest", ("name", "version")),
    Question.SERVER: ("ServerMetadata", "ServerMetadataRequest", ()),
    Question.METADATA: ("ModelMetadata", "ModelMetadataRequest", ("name", "version")),
}


class _Codec:
    """Messages and errors, the same for both transports."""

    def __init__(self, config: ClientConfig) -> None:
        self.endpoint = config.endpoint
        self._headers = tuple(config.headers.items())

    def metadata(self, traceparent: str | None) -> tuple[tuple[str, str], ...] | None:
        own = () if traceparent is None else (("traceparent", traceparent),)
        return self._headers + own or None

    def request(self, step: Infer) -> Any:
        model, version, inputs, outputs = step.request
        message = service_pb2.ModelInferRequest(model_name=model, model_version=version)
        for name, datatype, shape, data in inputs:
            message.inputs.add(name=name, datatype=datatype, shape=shape)
            message.raw_input_contents.append(data)
        for output in outputs:
            message.outputs.add(name=output)
        message.parameters["timeout"].int64_param = timeout_us(step.timeout_s)
        return message

    def answer(self, message: Any) -> wire.InferAnswer:
        names, contents = message.outputs, message.raw_output_contents
        if len(names) != len(contents):
            raise UnexpectedAnswerError(f"{len(names)} outputs came with the bytes of {len(contents)}")
        outputs = {
            output.name: wire.RawTensor(output.name, output.datatype, tuple(output.shape), data)
            for output, data in zip(names, contents, strict=True)
        }
        return wire.InferAnswer(message.model_name, message.model_version, outputs)

    def question(self, step: Ask) -> tuple[str, Any]:
        method, message, fields = _QUESTIONS[step.question]
        values = dict(zip(fields, (step.model, step.version), strict=False))
        return method, getattr(service_pb2, message)(**values)

    def fact(self, step: Ask, message: Any) -> Any:
        if step.question is Question.LIVE:
            return message.live
        if step.question in (Question.READY, Question.MODEL_READY):
            return message.ready
        return MessageToDict(message, preserving_proto_field_name=True)

    def error(self, exc: Any, timeout_s: float, is_closed: bool) -> BertTritonError:
        status, message = exc.code().name, exc.details() or ""
        if is_closed:
            return closed()
        if status == "DEADLINE_EXCEEDED" and message.startswith(_OWN_DEADLINE):
            return late(self.endpoint, timeout_s)
        if any(sign in message for sign in _UNTRUSTED):
            return untrusted(self.endpoint, message.rpartition("error: ")[2])
        error = error_from_grpc(status, message)
        is_lost = status == "UNAVAILABLE" and isinstance(error, ServerUnreachableError)
        return unreachable(self.endpoint, message) if is_lost else error


class GrpcTransport:
    """Blocking gRPC."""

    def __init__(self, config: ClientConfig) -> None:
        self._codec = _Codec(config)
        self._channel = _channel(grpc, config)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._is_closed = False

    def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""
        message = self._codec.request(step)
        return self._codec.answer(self._call("ModelInfer", message, step.timeout_s, step.traceparent))

    def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""
        return self._codec.fact(step, self._call(*self._codec.question(step), step.timeout_s))

    def _call(self, method: str, message: Any, timeout_s: float, traceparent: str | None = None) -> Any:
        if self._is_closed:
            raise closed()
        metadata = self._codec.metadata(traceparent)
        try:
            return getattr(self._stub, method)(message, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as exc:
            if _may_be_http(exc) and _speaks_http(self._codec.endpoint, timeout_s):
                raise wrong_protocol(self._codec.endpoint) from exc
            raise self._codec.error(exc, timeout_s, self._is_closed) from exc
        except ValueError as exc:  # what grpc raises on a closed channel
            if self._is_closed:
                raise closed() from exc
            raise

    def close(self) -> None:
        """Closes the channel; steps under way raise `ClientClosedError`."""
        self._is_closed = True
        self._channel.close()


class AsyncGrpcTransport:
    """Awaited gRPC."""

    def __init__(self, config: ClientConfig) -> None:
        self._codec = _Codec(config)
        self._channel = _channel(grpc.aio, config)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._is_closed = False

    async def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""
        message = self._codec.request(step)
        return self._codec.answer(await self._call("ModelInfer", message, step.timeout_s, step.traceparent))

    async def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""
        return self._codec.fact(step, await self._call(*self._codec.question(step), step.timeout_s))

    async def _call(self, method: str, message: Any, timeout_s: float, traceparent: str | None = None) -> Any:
        if self._is_closed:
            raise closed()
        metadata = self._codec.metadata(traceparent)
        try:
            return await getattr(self._stub, method)(message, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as exc:
            if _may_be_http(exc) and await asyncio.to_thread(_speaks_http, self._codec.endpoint, timeout_s):
                raise wrong_protocol(self._codec.endpoint) from exc
            raise self._codec.error(exc, timeout_s, self._is_closed) from exc
        except grpc.aio.UsageError as exc:  # what grpc raises on a closed channel
            raise closed() from exc
        except asyncio.CancelledError as exc:  # also what it raises in calls under way when the channel closes
            if self._is_closed and not _is_being_cancelled():
                raise closed() from exc
            raise

    async def close(self) -> None:
        """Closes the channel; steps under way raise `ClientClosedError`."""
        self._is_closed = True
        await self._channel.close()


def _channel(module: Any, config: ClientConfig) -> Any:
    """A channel of ``grpc`` or ``grpc.aio``; it connects when it is first used."""
    target = config.endpoint.authority
    if config.endpoint.tls:
        return module.secure_channel(target, _credentials(config.tls), options=_OPTIONS)
    return module.insecure_channel(target, options=_OPTIONS)


def _credentials(tls: TLSConfig) -> Any:
    def read(path: str | Path | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    return grpc.ssl_channel_credentials(read(tls.ca_certificates), read(tls.private_key), read(tls.certificate))


def _is_being_cancelled() -> bool:
    # Task.cancelling() is new in Python 3.11; before it, a cancelled call of a closed client reads as cancelled.
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


def _may_be_http(exc: Any) -> bool:
    """Whether something accepted the connection but did not greet with HTTP/2; only a probe can tell why."""
    details = exc.details() or ""
    return exc.code().name == "UNAVAILABLE" and "failed to connect" in details and "refused" not in details


def _speaks_http(endpoint: Endpoint, timeout_s: float) -> bool:
    """Whether the port that refused gRPC answers HTTP: a lost server looks the same to a channel."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), min(timeout_s, _PROBE_TIMEOUT_S)) as probe:
            probe.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
            return probe.recv(5) == b"HTTP/"
    except OSError:
        return False
