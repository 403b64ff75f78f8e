"""One table from what HTTP and gRPC report to what the client raises.

Pure: statuses and messages in, an exception out. Triton reports most faults with one message over
both protocols, but not always with statuses that match (a full queue, an expired deadline in the
queue and a restricted API are all ``UNAVAILABLE`` over gRPC), so a row may look at the message too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import (
    AccessDeniedError,
    BatchTooLargeError,
    BertTritonError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidTensorError,
    InvalidTextError,
    ModelNotFoundError,
    NotReadyError,
    OverloadedError,
    ServerFaultError,
    ServerUnreachableError,
    UnexpectedAnswerError,
)


@dataclass(frozen=True)
class Fault:
    """One row: the first row whose status and message match decides.

    Attributes:
        error: what to raise.
        grpc: status names it may come with.
        http: statuses it may come with.
        message: regular expression searched in the message; "" matches all.
    """

    error: type[BertTritonError]
    grpc: frozenset[str]
    http: frozenset[int]
    message: str = ""


def _row(error: type[BertTritonError], grpc: str, http: tuple[int, ...], message: str = "") -> Fault:
    return Fault(error, frozenset(grpc.split()), frozenset(http), message)


_REFUSED = ("INVALID_ARGUMENT", (400,))

FAULTS: tuple[Fault, ...] = (
    _row(InvalidTextError, *_REFUSED, r"\bTEXT\[\d+\]: "),
    _row(BatchTooLargeError, *_REFUSED, r"batch-size must be <= "),
    # Over HTTP an input that the JSON parser refuses is a 500.
    _row(InvalidTensorError, "INVALID_ARGUMENT", (400, 500), r"[Uu]nable to parse '(shape|datatype|data)'"),
    _row(
        InvalidTensorError,
        *_REFUSED,
        r"unexpected inference (input|output)|unexpected shape|data-type is|expected \d+ inputs? but got"
        r"|expected \d+ string elements|byte size mismatch|unexpected total byte size",
    ),
    # A model that is known: it is being loaded or unloaded (by a server that stops, too), or could not be loaded.
    _row(NotReadyError, "UNAVAILABLE NOT_FOUND", (503, 400, 404), r"is not ready|has no available versions"),
    _row(ModelNotFoundError, "NOT_FOUND UNAVAILABLE INVALID_ARGUMENT", (404, 400, 503), r"unknown model"),
    _row(ModelNotFoundError, *_REFUSED, r"requested model '.*' is not available"),
    _row(AccessDeniedError, "UNAVAILABLE", (503,), r"protocol is restricted"),
    _row(AccessDeniedError, "UNAUTHENTICATED PERMISSION_DENIED", (401, 403, 407)),
    _row(InvalidRequestError, "RESOURCE_EXHAUSTED", (), r"larger than max"),
    _row(InvalidRequestError, "", (413,)),
    # Triton's own queue, and that of bert_text.
    _row(OverloadedError, "UNAVAILABLE", (503,), r"maximum queue size|timeout expired|max_queue_size|timeout passed"),
    _row(OverloadedError, "RESOURCE_EXHAUSTED", (429, 503)),
    _row(DeadlineExceededError, "DEADLINE_EXCEEDED", (408, 504)),
    _row(ServerUnreachableError, "UNAVAILABLE", (502,)),
    # The process of the model died; whoever watches the server starts it anew.
    _row(ServerUnreachableError, "INTERNAL", (500,), r"Stub process .* is not healthy"),
    # A queue that dropped a request because its caller went away, or a proxy that did.
    _row(ServerUnreachableError, "CANCELLED ABORTED", (499,)),
    _row(ModelNotFoundError, "NOT_FOUND", ()),
    _row(UnexpectedAnswerError, "UNIMPLEMENTED", (404, 405, 501)),
    _row(InvalidRequestError, "INVALID_ARGUMENT ALREADY_EXISTS OUT_OF_RANGE FAILED_PRECONDITION", ()),
    _row(ServerFaultError, "INTERNAL UNKNOWN DATA_LOSS", ()),
)

_TEXT_FAULT = re.compile(r"\bTEXT\[(\d+)\]: (.*)", re.DOTALL)
# Triton's own decoration of a message, of no use to the caller.
_NOISE = re.compile(r"^\[request id: [^\]]*\] ")


def error_from_grpc(status: str, message: str) -> BertTritonError:
    """The error for a gRPC status name, such as ``INVALID_ARGUMENT``, and its message."""
    for fault in FAULTS:
        if status in fault.grpc and re.search(fault.message, message):
            return _build(fault.error, message, f"gRPC {status}")
    return UnexpectedAnswerError(f"unknown gRPC status {status}: {message}")


def error_from_http(status: int, message: str) -> BertTritonError:
    """The error for an HTTP status that is not 200 and the message of its body."""
    for fault in FAULTS:
        if status in fault.http and re.search(fault.message, message):
            return _build(fault.error, message, f"HTTP {status}")
    return _build(_by_hundreds(status), message, f"HTTP {status}")


def _by_hundreds(status: int) -> type[BertTritonError]:
    if 400 <= status < 500:
        return InvalidRequestError
    return ServerFaultError if status >= 500 else UnexpectedAnswerError


def _build(error: type[BertTritonError], message: str, status: str) -> BertTritonError:
    message = _NOISE.sub("", message).strip()
    if error is InvalidTextError and (found := _TEXT_FAULT.search(message)):
        index, reason = int(found[1]), found[2]
        return InvalidTextError(f"text {index}: {reason}", index=index, reason=reason)
    return error(f"{message or 'no message'} ({status})")
