"""What the gateway writes, and what it takes out of nginx's complaints before."""

from __future__ import annotations

import io
import json

import pytest

from deploy.gateway.log import Log, redacted

PREFIX = "2026/11/22 10:00:48 [error] 31037#31037: "
CONTEXT = (
    ', client: 10.0.0.9, server: , request: "POST /v2/SECRET?SECRET HTTP/1.1", '
    'upstream: "http://172.18.0.3:8000/SECRET", host: "SECRET:8443", referrer: "SECRET"'
)


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        (
            f"{PREFIX}*72 connect() failed (111: Connection refused) while connecting to upstream{CONTEXT}",
            {
                "level": "error",
                "message": "connect() failed (111: Connection refused) while connecting to upstream",
                "client": "10.0.0.9",
                "upstream": "172.18.0.3:8000",
            },
        ),
        (
            f'{PREFIX}*7 client sent invalid header: "SECRET: \\x22SECRET" while reading, client: 10.0.0.9, server: x',
            {"level": "error", "message": 'client sent invalid header: "…"', "client": "10.0.0.9"},
        ),
        (
            f'{PREFIX}*7 client sent invalid header line: "a"SECRET"b", client: 10.0.0.9, server: x',
            {"level": "error", "message": 'client sent invalid header line: "…"', "client": "10.0.0.9"},
        ),
        (
            f'{PREFIX}*7 open() "/tmp/SECRET" failed (28: No space left on device) while reading, client: 10.0.0.9',
            {"level": "error", "message": 'open() "…" (28: No space left on device)', "client": "10.0.0.9"},
        ),
        (f'{PREFIX}*7 read "a" (28: SECRET) in "b', {"level": "error", "message": 'read "…"'}),
        (
            f'{PREFIX}*7 too large body, client: 10.0.0.9, referrer: "x, upstream: "http://SECRET/"',
            {"level": "error", "message": "too large body", "client": "10.0.0.9"},
        ),
        (
            f'{PREFIX}*7 upstream sent "SECRET, client: SECRET',
            {"level": "error", "message": 'upstream sent "…"'},
        ),
        (
            f'{PREFIX}*7 timed out, client: unix:, server: , request: "SECRET", '
            'upstream: "grpc://unix:/tmp/gateway/10.0.0.1-8001.sock:", host: "SECRET"',
            {"level": "error", "message": "timed out", "upstream": "unix:/tmp/gateway/10.0.0.1-8001.sock"},
        ),
        (
            '2026/11/22 10:00:48 [emerg] 5#5: unknown directive "lsten" in /tmp/nginx.conf:7',
            {"level": "emerg", "message": 'unknown directive "lsten" in /tmp/nginx.conf:7'},
        ),
        ("no line of nginx's", {"level": "error", "message": "no line of nginx's"}),
    ],
)
def test_nothing_of_a_request_is_left_in_a_complaint(line: str, facts: dict[str, str]) -> None:
    assert redacted(line) == facts


def test_every_line_is_json() -> None:
    access, events = io.StringIO(), io.StringIO()
    log = Log(access, events)
    log.event("started", port=8443, models=("a",))
    log.nginx(f"{PREFIX}*1 failed{CONTEXT}")
    log.requests(b'{"time":"now"}\n{"time":"then"}\n')
    first, second = (json.loads(line) for line in events.getvalue().splitlines())
    assert (first["event"], first["level"], first["port"], first["models"]) == ("started", "info", 8443, ["a"])
    assert (second["event"], second["level"], second["client"]) == ("nginx", "error", "10.0.0.9")
    assert access.getvalue() == '{"time":"now"}\n{"time":"then"}\n'


def test_a_reader_that_is_gone_stops_nothing() -> None:
    closed = io.StringIO()
    closed.close()
    Log(closed, closed).event("started")
