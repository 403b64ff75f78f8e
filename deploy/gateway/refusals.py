"""What the gateway says when it does not pass a request on, in the words of both protocols.

HTTP gets a status and Triton's ``{"error": "…"}``. gRPC gets HTTP status 200 and a response of headers alone that
carry ``grpc-status`` and ``grpc-message``, which is what gRPC calls trailers-only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from .settings import Settings

# In the order of their numbers: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
GRPC_STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

MALFORMED = 422  # gate.js says it
NOTHING_ELSE = (
    "the gateway passes on inference, health, metadata and configuration of the models it names, nothing else"
)
REQUEST_ID_HEADER = "add_header x-request-id $gateway_request_id always;"


@dataclass(frozen=True)
class Refusal:
    """One row: how one of nginx's statuses reaches the client.

    Attributes:
        status: what nginx calls it.
        grpc: what gRPC calls it.
        message: one line of ASCII without quotes, backslashes, ``$`` and ``%``.
        http_status: what HTTP is told, where that is not ``status``.
        counted: whether it counts for the limits of an address; what is limited or broken anyway does not.
        early: whether it may come before the path is known, when nginx cannot go to a named location.
        headers: further ones, over both protocols.
    """

    status: int
    grpc: str
    message: str
    http_status: int | None = None
    counted: bool = False
    early: bool = False
    headers: tuple[tuple[str, str], ...] = ()


def table(settings: Settings) -> tuple[Refusal, ...]:
    """Every refusal of the gateway."""
    return (
        Refusal(400, "INVALID_ARGUMENT", "this is no HTTP request", counted=True, early=True),
        Refusal(
            401,
            "UNAUTHENTICATED",
            "no valid API key: send the header authorization: Bearer <key>",
            counted=True,
            headers=(("www-authenticate", "Bearer"),),
        ),
        Refusal(403, "PERMISSION_DENIED", NOTHING_ELSE, counted=True),
        Refusal(404, "PERMISSION_DENIED", NOTHING_ELSE, http_status=403, counted=True),
        Refusal(405, "PERMISSION_DENIED", "the gateway does not pass on this method"),
        Refusal(408, "DEADLINE_EXCEEDED", "the request did not arrive in time"),
        # "larger than max" is how gRPC itself says it.
        Refusal(413, "RESOURCE_EXHAUSTED", f"the request is larger than max ({_sizes(settings)})"),
        Refusal(414, "INVALID_ARGUMENT", "the path is too long", early=True),
        Refusal(415, "UNIMPLEMENTED", "compressed requests are not taken: send it as it is", counted=True),
        Refusal(
            MALFORMED,
            "INVALID_ARGUMENT",
            "the request is malformed, or its JSON has too many brackets",
            http_status=400,
            counted=True,
        ),
        Refusal(
            429,
            "RESOURCE_EXHAUSTED",
            f"too many requests from this address: {_limits(settings)}",
            headers=(("retry-after", str(retry_after_s(settings))),),
        ),
        Refusal(494, "INVALID_ARGUMENT", "the headers are too large", http_status=431),
        Refusal(497, "INVALID_ARGUMENT", "this port speaks TLS: write https:// or grpcs://", http_status=400),
        Refusal(501, "UNIMPLEMENTED", "this way of sending a request is not known"),
        Refusal(505, "UNIMPLEMENTED", "this version of HTTP is not known", early=True),
        Refusal(500, "INTERNAL", "the gateway failed; its log says more"),
        Refusal(502, "UNAVAILABLE", "no Triton could be reached"),
        Refusal(504, "DEADLINE_EXCEEDED", f"no Triton answered within {settings.try_timeout_s} s"),
    )


def retry_after_s(settings: Settings) -> int:
    """When the next request of an address that used up its share can pass."""
    return 1 if settings.rate_per_minute is None else math.ceil(60 / settings.rate_per_minute)


def _sizes(settings: Settings) -> str:
    return f"{settings.max_body_bytes} bytes, {settings.max_json_bytes} of JSON"


def _limits(settings: Settings) -> str:
    rate = "" if settings.rate_per_minute is None else f"{settings.rate_per_minute} a minute and "
    return f"{rate}{settings.concurrent_per_ip} at once are allowed"


def error_pages(refusals: tuple[Refusal, ...]) -> Iterator[str]:
    """The directives that send each status to its location; ``$wire`` is grpc or http."""
    for refusal in refusals:
        yield f"error_page {refusal.status} = {_entrance(refusal, '${wire}')};"


def locations(refusals: tuple[Refusal, ...], limits: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """The locations that answer: head and directives of each.

    Args:
        refusals: the table.
        limits: directives that count a request.
    """
    for refusal in refusals:
        for wire, answer in (("http", _http_answer(refusal)), ("grpc", _grpc_answer(refusal))):
            entrance, last = _entrance(refusal, wire), f"@{wire}_refused_{refusal.status}"
            yield f"location {last}", answer
            if entrance != last:
                # `return` comes before the limits are looked at; a file that is not there comes after them.
                counted = limits if refusal.counted else ()
                internal, match = (("internal;",), "= ") if refusal.early else ((), "")
                yield f"location {match}{entrance}", [*internal, *counted, f"try_files /none {last};"]


def _entrance(refusal: Refusal, wire: str) -> str:
    if refusal.early:
        return f"/{wire}_early_{refusal.status}"
    return f"@{wire}_{'counted' if refusal.counted else 'refused'}_{refusal.status}"


def _http_answer(refusal: Refusal) -> list[str]:
    body = json.dumps({"error": refusal.message})
    return [
        "default_type application/json;",
        REQUEST_ID_HEADER,
        *_headers(refusal),
        f"return {refusal.http_status or refusal.status} '{body}';",
    ]


def _grpc_answer(refusal: Refusal) -> list[str]:
    return [
        "default_type application/grpc;",
        REQUEST_ID_HEADER,
        *_headers(refusal),
        f"add_header grpc-status {GRPC_STATUSES.index(refusal.grpc)} always;",
        f'add_header grpc-message "{refusal.message}" always;',
        'return 200 "";',
    ]


def _headers(refusal: Refusal) -> list[str]:
    return [f'add_header {name} "{value}" always;' for name, value in refusal.headers]
