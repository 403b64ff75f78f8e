"""What a canary makes of the answers that it gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from server.readiness import CanaryFailed, CanaryRefused, Probe


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[Probe, list[str]]]:
    """A server that answers with one status after the other, and with the last one from then on."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"][0]["data"][0])
            self.send_response(statuses[min(len(asked), len(statuses)) - 1])
            self.end_headers()
            self.wfile.write(b'{"error": "the queue is full"}')

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Probe("127.0.0.1", server.server_address[1]), asked
        finally:
            server.shutdown()
            thread.join()


def test_a_full_queue_says_nothing_against_a_model() -> None:
    with answering(503, 503, 200) as (probe, asked):
        probe.canary_under_load("sentiment", bool)
    assert len(asked) == 3


@pytest.mark.parametrize(("interrupted", "timeout_s"), [(lambda: True, 60.0), (bool, 0.2)])
def test_room_is_waited_for_no_longer_than_asked(interrupted: Callable[[], bool], timeout_s: float) -> None:
    message = "model sentiment is loaded but does not answer: .* answered 503: the queue is full"
    with answering(503) as (probe, _), pytest.raises(CanaryRefused, match=message):
        probe.canary_under_load("sentiment", interrupted, timeout_s)


def test_another_failure_is_one_at_once() -> None:
    with answering(500, 200) as (probe, asked):
        with pytest.raises(CanaryFailed) as caught:
            probe.canary_under_load("sentiment", bool)
        assert len(asked) == 1
    assert not isinstance(caught.value, CanaryRefused)
