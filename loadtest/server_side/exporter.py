"""The server's page of metrics over a window: counters of ``bert_text`` as differences, gauges of the GPUs as means.

Owns the names of these metrics and the patience that they need. ``bert_text`` tells Triton what it has counted up to
0.2 s later, so a reading is right only some time after what it is to count, and `counted` waits for that. At either end
of a window the load goes on meanwhile; both ends wait for as long, so that the difference is of as many seconds as the
window has, a little later. Gauges are sampled once a second by a thread; nothing else is asked during the window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from statistics import fmean

from loadtest.server_side.prometheus import MetricsError, Page, Sample

CACHE_HITS = "bert_text_cache_hits_total"
TOKENS = "bert_text_tokens_total"
PADDING_TOKENS = "bert_text_padding_tokens_total"
EXECUTIONS = "bert_text_executions_total"
EXECUTED_TEXTS = "bert_text_executed_texts_total"
QUEUE_US = "bert_text_queue_duration_us_total"
REQUEST_US = "bert_text_request_duration_us_total"
REQUESTS = "nv_inference_request_success"
GPU_UTILISATION = "nv_gpu_utilization"  # 0 to 1
GPU_MEMORY_BYTES = "nv_gpu_memory_used_bytes"
CPU_UTILISATION = "nv_cpu_utilization"  # 0 to 1, of the whole machine

FLUSH_S = 0.2  # how late bert_text tells its counts
PATIENCE_S = 0.2  # beyond that, for a thread and a call between processes on a busy machine
SAMPLE_INTERVAL_S = 1.0  # Triton renews its gauges every 2 s unless told otherwise


@dataclass(frozen=True)
class TextCounts:
    """What a text model has counted since it was loaded; None for what is not on the page.

    Attributes:
        cache_hits: texts answered without computing them again.
        tokens: sent to the tensor model, padding left out.
        padding_tokens: padding beside them.
        executions: calls of the tensor model.
        executed_texts: texts in them.
        queue_us: microseconds that these texts waited for their execution, summed.
        request_us: microseconds from arrival to answer of answered requests, summed.
    """

    cache_hits: int | None = None
    tokens: int | None = None
    padding_tokens: int | None = None
    executions: int | None = None
    executed_texts: int | None = None
    queue_us: int | None = None
    request_us: int | None = None

    @classmethod
    def read(cls, page: Page, model: str, version: str) -> TextCounts:
        """The counts of one model on a page; of all its versions if ``version`` is ""."""
        labels = {"model": model} | ({"version": version} if version else {})

        def count(name: str) -> int | None:
            total = page.total(name, **labels)
            return None if total is None else int(total)

        names = (CACHE_HITS, TOKENS, PADDING_TOKENS, EXECUTIONS, EXECUTED_TEXTS, QUEUE_US, REQUEST_US)
        return cls(*map(count, names))

    @property
    def present(self) -> bool:
        """Whether the page has any of them: whether the model is one of ``bert_text``."""
        return any(count is not None for count in self._all)

    @property
    def _all(self) -> tuple[int | None, ...]:
        return astuple(self)

    def since(self, earlier: TextCounts) -> TextCounts:
        """What was added since an earlier reading.

        Raises:
            MetricsError: a counter went down: the server, or the model, was loaded anew in between.
        """
        pairs = list(zip(self._all, earlier._all, strict=True))
        if any(now is not None and then is not None and now < then for now, then in pairs):
            raise MetricsError(
                f"the text model's counters went down, from {earlier} to {self}: the server, or the model, was loaded "
                "anew in between"
            )
        return TextCounts(*(None if now is None or then is None else now - then for now, then in pairs))


def counted(read: Callable[[], TextCounts]) -> TextCounts:
    """A reading that has all that was counted before this call, and little of what is counted during it."""
    time.sleep(FLUSH_S + PATIENCE_S)
    return read()


class Gauges:
    """Samples a page of metrics until it is stopped.

    Args:
        read: fetches the page; raises `MetricsError`.
        gpu: whether it is for the GPUs, or for the CPU as a last resort.
    """

    def __init__(self, read: Callable[[], Page], *, gpu: bool) -> None:
        self.gpu = gpu
        self._read = read
        self._pages: list[Page] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, name="metrics gauges", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, after a reading that is under way; does not wait for that. Ending twice is fine."""
        self._stopped.set()

    def _sample_until_stopped(self) -> None:
        due_s = time.monotonic()
        while not self._stopped.wait(max(0.0, due_s - time.monotonic())):
            due_s += SAMPLE_INTERVAL_S
            try:
                self._pages.append(self._read())
            except MetricsError:
                continue  # a server that is gone is noticed by its counters

    def gpu_utilisation(self) -> float | None:
        """Mean of the busiest GPU, 0 to 1; None without a GPU."""
        by_gpu: dict[str, list[float]] = {}
        for sample in self._samples(GPU_UTILISATION):
            by_gpu.setdefault(sample.labels.get("gpu_uuid", ""), []).append(sample.value)
        return max(map(fmean, by_gpu.values()), default=None)

    def gpu_memory_bytes(self) -> int | None:
        """The most that all GPUs together had in use; None without a GPU."""
        totals = [page.total(GPU_MEMORY_BYTES) for page in list(self._pages)]
        return max((int(total) for total in totals if total is not None), default=None)

    def cpu_utilisation(self) -> float | None:
        """Mean of the whole machine's, 0 to 1; None if the server does not tell."""
        values = [sample.value for sample in self._samples(CPU_UTILISATION)]
        return fmean(values) if values else None

    def _samples(self, name: str) -> list[Sample]:
        # NaN is what a gauge is that could not be read.
        return [one for page in list(self._pages) for one in page.select(name) if 0 <= one.value <= 1]
