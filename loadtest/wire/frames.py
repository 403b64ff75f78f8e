"""Frames of HTTP/2 (RFC 9113): their numbers and their bytes."""

from __future__ import annotations

import struct

from bert_triton_client.errors import UnexpectedAnswerError

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Settings
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x1, 0x2, 0x4, 0x5
DEFAULT_WINDOW_BYTES = 65535
SMALLEST_FRAME_BYTES = 16384
LARGEST_FRAME_BYTES = 2**24 - 1
LARGEST_WINDOW_BYTES = 2**31 - 1
LAST_STREAM_ID = 2**31 - 1
# Error codes
NO_ERROR, CANCEL = 0x0, 0x8
ERROR_NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

FRAME_HEAD = struct.Struct(">HBBBI")  # length (upper 16 and lower 8 bits), type, flags, stream
SETTING = struct.Struct(">HI")
WORD = struct.Struct(">I")
TWO_WORDS = struct.Struct(">II")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return frame_head(len(payload), kind, flags, stream_id) + payload


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload."""
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def settings_frame(settings: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(key, value) for key, value in settings.items()]))


def error_name(code: int) -> str:
    """The standard's name of an error code."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error {code}"


def unpadded(flags: int, payload: bytes) -> bytes:
    """A payload without what only makes it longer.

    Raises:
        UnexpectedAnswerError: it has more padding than bytes.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise broken("a frame with more padding than it has bytes")
    return payload[1 : len(payload) - payload[0]]


def broken(reason: str) -> UnexpectedAnswerError:
    """The server does what the standard forbids."""
    return UnexpectedAnswerError(f"the server breaks HTTP/2: {reason}")
