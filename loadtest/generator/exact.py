"""Percentiles from raw samples for Locust's own command line, whose tables round response times to two digits.

Owns collecting the samples, in one process or from Locust's workers, and the lines of the log. What a percentile is,
`loadtest.statistics`.
"""

from __future__ import annotations

import logging
from array import array
from collections import defaultdict
from typing import Any

import numpy as np
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest import statistics

SHARES = (0.5, 0.9, 0.95, 0.99)
MESSAGE = "loadtest-latencies"

logger = logging.getLogger("loadtest")


class ExactLatencies:
    """The response times of good answers, in milliseconds, by protocol and model."""

    def __init__(self, environment: Environment) -> None:
        """Listens to Locust's events; in a distributed test, the workers send what they have to the master."""
        self._latencies_ms: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._environment = environment
        events, runner = environment.events, environment.runner
        events.request.add_listener(self._note)
        events.reset_stats.add_listener(self.clear)
        events.test_start.add_listener(self.clear)
        events.spawning_complete.add_listener(self._spawned)
        if isinstance(runner, WorkerRunner):
            events.report_to_master.add_listener(self._send)
            events.test_stop.add_listener(self._send_rest)
        elif isinstance(runner, MasterRunner):
            events.worker_report.add_listener(self._receive)
            runner.register_message(MESSAGE, lambda msg, **_: self._receive(msg.node_id, msg.data))
        if not isinstance(runner, WorkerRunner):
            at_end = isinstance(runner, MasterRunner) and environment.web_ui is None  # workers report after the stop
            (events.quit if at_end else events.test_stop).add_listener(self.log)

    def clear(self, **_event: object) -> None:
        """Forgets what there is."""
        self._latencies_ms.clear()

    def log(self, **_event: object) -> None:
        """Writes a line for each protocol and model."""
        for name, latencies_ms in sorted(self._latencies_ms.items()):
            logger.info(line(name, np.array(latencies_ms)))

    def _spawned(self, **_event: object) -> None:
        if self._environment.reset_stats:
            self.clear()

    def _note(
        self, request_type: str, name: str, response_time: float, exception: Exception | None, **_event: object
    ) -> None:
        if exception is None:
            self._latencies_ms[f"{request_type} {name}"].append(response_time)

    def _drain(self) -> dict[str, bytes]:
        drained = {name: latencies_ms.tobytes() for name, latencies_ms in self._latencies_ms.items()}
        self.clear()
        return drained

    def _send(self, data: dict[str, Any], **_event: object) -> None:
        data[MESSAGE] = self._drain()

    def _send_rest(self, environment: Environment, **_event: object) -> None:
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.send_message(MESSAGE, {MESSAGE: self._drain()})

    def _receive(self, client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG002 - Locust names the arguments
        for name, content in data.get(MESSAGE, {}).items():
            self._latencies_ms[name].frombytes(content)


def line(name: str, latencies_ms: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """For example ``gRPC sentiment: 1,204 answers, exact latency ms: p50 4.102, …``."""
    if not len(latencies_ms):
        return f"{name}: no answers"
    words = []
    for share in SHARES:
        estimate = statistics.percentile(latencies_ms, share)
        known = estimate.low is not None and estimate.high is not None
        interval = f" ({estimate.low:.3f} to {estimate.high:.3f})" if known else ""
        words.append(f"p{share * 100:g} {estimate.value:.3f}{interval}")
    return f"{name}: {len(latencies_ms):,} answers, exact latency in ms with 95 % intervals: {', '.join(words)}"
