"""One fault, one class, over both protocols; every row of the table is met."""

from __future__ import annotations

import pickle
import re

import pytest

import bert_triton_client as btc
from backends.bert_text.text_queue import LATE, queue_full
from bert_triton_client import errors
from bert_triton_client.faults import FAULTS, error_from_grpc, error_from_http

# What Triton 2.51 really sent: (gRPC status, HTTP status, message, class)
OBSERVED = [
    ("INVALID_ARGUMENT", 400, "TEXT[3]: no tokens", btc.InvalidTextError),
    ("INVALID_ARGUMENT", 400, "in call to 'x': TEXT[0]: not valid UTF-8", btc.InvalidTextError),
    (
        "INVALID_ARGUMENT",
        400,
        "[request id: <id_unknown>] inference request batch-size must be <= 4 for 'slow'",
        btc.BatchTooLargeError,
    ),
    ("INVALID_ARGUMENT", 400, "unexpected inference input 'TXT' for model 'sentiment'", btc.InvalidTensorError),
    ("INVALID_ARGUMENT", 400, "unexpected inference output 'NOPE' for model 'sentiment'", btc.InvalidTensorError),
    (
        "INVALID_ARGUMENT",
        400,
        "expected 2 inputs but got 1 inputs for model 'echo'. Got input(s) ['input_ids']",
        btc.InvalidTensorError,
    ),
    (
        "INVALID_ARGUMENT",
        400,
        "inference input 'TEXT' data-type is 'INT64', but model 'sentiment' expects 'BYTES'",
        btc.InvalidTensorError,
    ),
    (
        "INVALID_ARGUMENT",
        400,
        "unexpected shape for input 'TEXT' for model 'sentiment'. Expected [-1,1], got [1].",
        btc.InvalidTensorError,
    ),
    (
        "INVALID_ARGUMENT",
        400,
        "expected 2 string elements for inference input 'TEXT' for model 'sentiment', got 1",
        btc.InvalidTensorError,
    ),
    (
        "INVALID_ARGUMENT",
        400,
        "input byte size mismatch for input 'input_ids' for model 'echo'. Expected 16, got 8",
        btc.InvalidTensorError,
    ),
    ("INVALID_ARGUMENT", 500, "Unable to parse 'shape': attempt to access JSON", btc.InvalidTensorError),
    ("INVALID_ARGUMENT", 400, "something else is wrong", btc.InvalidRequestError),
    ("NOT_FOUND", 404, "Request for unknown model: 'nope' is not found", btc.ModelNotFoundError),
    ("UNAVAILABLE", 400, "Request for unknown model: 'nope' has no available versions", btc.NotReadyError),
    ("INVALID_ARGUMENT", 400, "requested model 'nope' is not available", btc.ModelNotFoundError),
    ("UNAVAILABLE", 503, "model 'sentiment' is not ready", btc.NotReadyError),
    ("UNAVAILABLE", 503, "Exceeds maximum queue size", btc.OverloadedError),
    ("UNAVAILABLE", 503, "Request timeout expired", btc.OverloadedError),
    # What bert_text says of its own queue.
    ("UNAVAILABLE", 503, queue_full(waiting=64, max_queue_size=64).message, btc.OverloadedError),
    ("UNAVAILABLE", 503, LATE.message, btc.OverloadedError),
    ("INTERNAL", 500, "Stub process 'sentiment_0_0' is not healthy.", btc.ServerUnreachableError),
    ("RESOURCE_EXHAUSTED", 429, "slow down", btc.OverloadedError),
    ("RESOURCE_EXHAUSTED", 413, "Received message larger than max (9 vs. 4)", btc.InvalidRequestError),
    ("UNAVAILABLE", 403, "This protocol is restricted, expecting header 'x'", btc.AccessDeniedError),
    ("UNAUTHENTICATED", 401, "who are you", btc.AccessDeniedError),
    ("PERMISSION_DENIED", 403, "not you", btc.AccessDeniedError),
    ("UNKNOWN", 500, "?", btc.ServerFaultError),
    ("DEADLINE_EXCEEDED", 504, "Deadline Exceeded", btc.DeadlineExceededError),
    ("UNAVAILABLE", 502, "bad gateway; Socket closed", btc.ServerUnreachableError),
    ("CANCELLED", 499, "gone", btc.ServerUnreachableError),
    ("UNIMPLEMENTED", 404, "Not Found", btc.UnexpectedAnswerError),
]


@pytest.mark.parametrize(("grpc_status", "http_status", "message", "error"), OBSERVED)
def test_both_protocols_raise_the_same_class(grpc_status: str, http_status: int, message: str, error: type) -> None:
    assert type(error_from_grpc(grpc_status, message)) is error
    assert type(error_from_http(http_status, message)) is error


def test_every_row_of_the_table_decides_something() -> None:
    used = set()
    for grpc_status, http_status, message, _ in [*OBSERVED, ("NOT_FOUND", 404, "plain", None)]:
        for row, fault in enumerate(FAULTS):
            if grpc_status in fault.grpc and (not fault.message or re.search(fault.message, message)):
                used.add(row)
                break
        for row, fault in enumerate(FAULTS):
            if http_status in fault.http and (not fault.message or re.search(fault.message, message)):
                used.add(row)
                break
    assert used == set(range(len(FAULTS)))


@pytest.mark.parametrize("status", [302, 402, 418, 422, 500, 505, 599])
def test_every_http_status_has_a_class(status: int) -> None:
    assert isinstance(error_from_http(status, ""), btc.BertTritonError)


def test_every_grpc_status_has_a_class() -> None:
    names = (
        "CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
        "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
        "UNAUTHENTICATED"
    )
    for name in names.split():
        assert "unknown gRPC status" not in str(error_from_grpc(name, ""))
    assert isinstance(error_from_grpc("NEW_IN_2030", "?"), btc.UnexpectedAnswerError)


def test_a_bad_text_carries_its_index_and_reason() -> None:
    error = error_from_http(400, "TEXT[12]: 3 tokens\nover the limit")
    assert isinstance(error, btc.InvalidTextError)
    assert (error.index, error.reason, str(error)) == (
        12,
        "3 tokens\nover the limit",
        "text 12: 3 tokens\nover the limit",
    )


def test_a_message_loses_tritons_decoration_and_gains_the_status() -> None:
    assert str(error_from_grpc("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size")) == (
        "Exceeds maximum queue size (gRPC UNAVAILABLE)"
    )


def all_classes(root: type[btc.BertTritonError]) -> list[type[btc.BertTritonError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_classes(child))]


@pytest.mark.parametrize("error", all_classes(btc.BertTritonError))
def test_errors_pickle(error: type[btc.BertTritonError]) -> None:
    if error is btc.InvalidTextError:
        original: btc.BertTritonError = btc.InvalidTextError("text 3: empty", index=3, reason="empty")
    else:
        original = error("what happened")
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301
    assert type(copy) is error
    assert (str(copy), vars(copy)) == (str(original), vars(original))


def test_every_class_is_public_and_has_one_root() -> None:
    classes = {error.__name__ for error in all_classes(btc.BertTritonError)}
    assert classes == {name for name in vars(errors) if name.endswith("Error")}
    assert classes <= set(btc.__all__)
    assert issubclass(btc.DeadlineExceededError, TimeoutError)
