"""The server's side of a window: Triton's own counters as differences, text counters, CPU or GPU, memory.

Owns when each is read and what may be missing. Once a watch is made nothing here raises: what cannot be read is None,
and `Watch.problem` says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from bert_triton_client import AccessDeniedError, BertTritonError, ModelStatistics, UnexpectedAnswerError
from loadtest.access import Access
from loadtest.cell import ModelCounters, ServerSide
from loadtest.errors import LoadTestError
from loadtest.server_side import exporter, machine, processes, prometheus
from loadtest.server_side.exporter import Gauges, TextCounts

if TYPE_CHECKING:
    from loadtest.target import Target

CPU = "CPU"
GPU = "GPU"
ASK_TIMEOUT_S = 10.0  # for statistics, from a server whose cores may all be busy
METRICS_TIMEOUT_S = 3.0
REPORT_S = 0.02  # Triton counts a request some moments after it has answered it
GUESSED_METRICS_PORT = 8002  # Triton's own default
NO_TEXT_COUNTS = TextCounts()

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Reading:
    """One end of the window."""

    at_s: float
    cpu: processes.Usage | None
    models: tuple[list[ModelStatistics], ...] | None  # the model's versions, then those of the tensor model behind it
    text: TextCounts | None


class Watch:
    """Watches one window, once: make it before the load, `start` and `stop` it where the window begins and ends.

    Both read the counters at once; then they wait 0.4 s for what a text model counts late
    (`loadtest.server_side.exporter`). Call them from where nothing of the load waits for them, and let nothing but the
    load reach the model before `stop` is back.

    Args:
        target: the model that is asked.
        access: headers and certificates.
        metrics_url: the server's page of metrics; None tries ``http://<host>:8002/metrics``, without the headers.
        server_pid: the server's process; None looks for the one that listens on the URL's port.

    Raises:
        UsageError: a URL or a process id that cannot be.
    """

    def __init__(self, target: Target, access: Access, metrics_url: str | None, server_pid: int | None = None) -> None:
        self._target = target
        self._problems: dict[str, None] = {}
        self._before: _Reading | None = None
        self._read_page = _page_reader(target.url, access, metrics_url)
        self._processes, self._no_processes = _find_processes(target.url, server_pid)
        self._client = access.client(target.url, target.model, ASK_TIMEOUT_S)
        page = self._attempt("metrics", self._first_page) or prometheus.Page(())
        self._has_text_counts = self._text_counts_of(page).present
        self._gauges = self._wanted_gauges(page)

    @property
    def problem(self) -> str:
        """What cannot be read, and why; "" if everything is."""
        return "; ".join(self._problems)

    # --- The window ---

    def start(self) -> None:
        """The window begins."""
        if self._gauges:
            self._gauges.start()
        self._before = self._reading()

    def stop(self) -> ServerSide | None:
        """The window has ended: what the server says of it; None if its statistics cannot be read."""
        before, self._before = self._before, None
        if before is None:
            self._note("the server's counters were not read when the window began")
            return None
        if self._gauges:
            self._gauges.stop()
        try:
            return self._side(before, self._reading())
        finally:
            self.close()

    def close(self) -> None:
        """Ends connections and threads; `stop` does so itself. Closing twice is fine."""
        if self._gauges:
            self._gauges.stop()
        self._client.close()

    def _reading(self) -> _Reading:
        at_s = time.monotonic()
        cpu = self._attempt("CPU time", self._processes.usage) if self._processes else None
        time.sleep(REPORT_S)
        models = self._attempt("statistics", self._statistics)
        text = None
        if self._has_text_counts and models is not None:
            text = self._attempt("the text model's counters", lambda: exporter.counted(self._text_counts))
        return _Reading(at_s, cpu, models, text)

    def _statistics(self) -> tuple[list[ModelStatistics], ...]:
        names = (self._target.model, self._target.tensor_model)
        return tuple(self._client.statistics(name, timeout_s=ASK_TIMEOUT_S) for name in names if name)

    def _first_page(self) -> prometheus.Page:
        """The page of metrics, once it is sure to be that of this server and not of another on the usual port."""
        least = self._requests_so_far()
        page = self._read_page()
        told = page.total(exporter.REQUESTS, model=self._target.model)
        most = self._requests_so_far()
        if least is not None and most is not None and (told is None or not least <= told <= most):
            raise prometheus.MetricsError(
                f"the page counts {'no' if told is None else int(told)} requests of model {self._target.model!r} and "
                f"the server itself {most}: it is that of another server; name this one's with --metrics-url"
            )
        return page

    def _requests_so_far(self) -> int | None:
        with suppress(BertTritonError):  # says so itself when the window begins
            return sum(one.requests for one in self._client.statistics(self._target.model))
        return None

    def _text_counts(self) -> TextCounts:
        return self._text_counts_of(self._read_page())

    def _text_counts_of(self, page: prometheus.Page) -> TextCounts:
        return TextCounts.read(page, self._target.model, self._target.version)

    def _wanted_gauges(self, page: prometheus.Page) -> Gauges | None:
        """Gauges cost a request a second, so they are read only where they tell something."""
        on_gpu = "KIND_CPU" not in self._target.instances or "KIND_GPU" in self._target.instances
        gpu = on_gpu and page.select(exporter.GPU_UTILISATION)
        cpu = self._processes is None and page.select(exporter.CPU_UTILISATION)
        return Gauges(self._read_page, gpu=bool(gpu)) if gpu or cpu else None

    # --- Differences ---

    def _side(self, before: _Reading, after: _Reading) -> ServerSide | None:
        if before.models is None or after.models is None:
            return None
        models = self._attempt("statistics", lambda: self._differences(before.models or (), after.models or ()))
        if not models:
            return None
        text = self._text_difference(before.text, after.text)
        device, utilisation, memory_bytes = self._device(before, after)
        return ServerSide(
            models=(_with_own_times(models[0], text), *models[1:]),
            text_cache_hits=text.cache_hits,
            tokens=text.tokens,
            padding_tokens=text.padding_tokens,
            device=device,
            utilisation=utilisation,
            memory_bytes=memory_bytes,
        )

    def _differences(
        self, before: Iterable[list[ModelStatistics]], after: Iterable[list[ModelStatistics]]
    ) -> tuple[ModelCounters, ...]:
        asked, *behind = [_moved(then, now) for then, now in zip(before, after, strict=True)]
        served = [one for one in asked if one.version == self._target.version or not self._target.version]
        if not served:
            raise UnexpectedAnswerError(
                f"model {self._target.model!r} has no version {self._target.version} any more: it was unloaded"
            )
        others = [one for one in asked if one is not served[0] and one.requests]
        for other in others:
            self._note(f"version {other.version} of {other.name!r} answered {other.requests} requests in the same time")
        busy = [one for versions in behind for one in (versions[:1] + [more for more in versions[1:] if more.requests])]
        return tuple(_counters(one) for one in (served[0], *busy))

    def _text_difference(self, before: TextCounts | None, after: TextCounts | None) -> TextCounts:
        if before is None or after is None:
            return NO_TEXT_COUNTS
        return self._attempt("the text model's counters", lambda: after.since(before)) or NO_TEXT_COUNTS

    def _device(self, before: _Reading, after: _Reading) -> tuple[str, float | None, int | None]:
        gauges = self._gauges
        if gauges and gauges.gpu:
            return GPU, gauges.gpu_utilisation(), gauges.gpu_memory_bytes()
        if not self._processes:
            told = gauges.cpu_utilisation() if gauges else None
            whole = "; the CPU utilisation is that of the server's whole machine" if told is not None else ""
            self._note(self._no_processes + whole)
            return CPU, told, None
        memory_bytes = self._attempt("memory", self._processes.memory_bytes)
        if before.cpu is None or after.cpu is None:
            return CPU, None, memory_bytes
        available_s = (after.at_s - before.at_s) * machine.usable_cores()
        # A server that may use more cores than loadtest may keeps more than all of them busy.
        return CPU, min(1.0, after.cpu.since(before.cpu) / available_s), memory_bytes

    # --- Problems ---

    def _attempt(self, what: str, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except AccessDeniedError as exc:
            self._note(f"the server's {what} cannot be read: {exc}; give this client access to them (--header)")
        except (BertTritonError, LoadTestError) as exc:
            self._note(f"the server's {what} cannot be read: {exc}")
        return None

    def _note(self, problem: str) -> None:
        self._problems[problem] = None


def _page_reader(url: str, access: Access, metrics_url: str | None) -> Callable[[], prometheus.Page]:
    if metrics_url is None:
        host = urlsplit(url).hostname or ""
        guess = f"http://{f'[{host}]' if ':' in host else host}:{GUESSED_METRICS_PORT}/metrics"
        # Headers may hold secrets, and nobody said that this port is the server's.
        return lambda: _guessed_page(guess)
    told = prometheus.check_url(metrics_url)
    return lambda: prometheus.fetch(
        told, headers=access.headers, ca_certificates=access.ca_certificates, timeout_s=METRICS_TIMEOUT_S
    )


def _guessed_page(url: str) -> prometheus.Page:
    try:
        return prometheus.fetch(url, timeout_s=METRICS_TIMEOUT_S)
    except prometheus.MetricsError as exc:
        raise prometheus.MetricsError(f"{exc}; if they are elsewhere, name their page with --metrics-url") from exc


def _find_processes(url: str, pid: int | None) -> tuple[processes.ServerProcesses | None, str]:
    """The server's processes, or why they cannot be seen."""
    try:
        return processes.find(url, pid), ""
    except processes.ProcessesError as exc:
        return None, str(exc)


def _moved(before: list[ModelStatistics], after: list[ModelStatistics]) -> list[ModelStatistics]:
    """What each version did between two readings, the busiest first; of equally busy ones, the highest."""
    earlier = {one.version: one for one in before}
    added = [one.since(earlier[one.version]) if one.version in earlier else one for one in after]
    return sorted(added, key=lambda one: (one.requests, len(one.version), one.version), reverse=True)


def _counters(statistics: ModelStatistics) -> ModelCounters:
    return ModelCounters(
        model=statistics.name,
        version=statistics.version,
        requests=statistics.requests,
        failures=statistics.failures,
        inferences=statistics.inferences,
        executions=statistics.executions,
        queue_ms=statistics.queue.mean_ms,
        compute_input_ms=statistics.compute_input.mean_ms,
        compute_infer_ms=statistics.compute_infer.mean_ms,
        compute_output_ms=statistics.compute_output.mean_ms,
        cache_hits=statistics.cache_hits,
    )


def _with_own_times(model: ModelCounters, text: TextCounts) -> ModelCounters:
    """What ``bert_text`` says of its queue and its executions in place of what Triton sees of them.

    It takes requests in at once and answers them later, so Triton counts neither their waiting nor their computing.
    The queue is the mean wait of a text that was computed, computing the rest of the mean request.
    """
    if not model.requests or not text.executed_texts or text.queue_us is None or text.request_us is None:
        return model
    request_ms = text.request_us / model.requests / 1000
    queue_ms = min(request_ms, text.queue_us / text.executed_texts / 1000)
    return replace(
        model,
        inferences=text.executed_texts,
        executions=text.executions or 0,
        queue_ms=queue_ms,
        compute_input_ms=0.0,
        compute_infer_ms=request_ms - queue_ms,
        compute_output_ms=0.0,
    )
