"""Notices what lives and does nothing: a text model that is asked and answers nobody, or tritonserver itself.

A thread of its own looks at Triton's metrics every two seconds. Counters raise a suspicion only: the count of pending
requests is not always right (triton-inference-server/server#6494), a full /dev/shm fails large requests and no others,
and one failed request is none. So a suspect is asked, and hangs if that is not answered either.

    process    requests wait for it, or fail without its doing: stopped, or stuck in Python
    queue      texts wait in it: its threads are stuck, or its tensor model is
    Triton     gives out no metrics

What is wrong must last `Hangs.timeout_s`, so no execution may take as long. Of several instances of a text model one
that hangs is not noticed here: the others make progress.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.launcher import TritonServer
from server.readiness import NotReady, Probe

HANG_TIMEOUT_S = 30.0
LOOK_INTERVAL_S = 2.0
MIN_LOOKS = 3  # in a row that find something wrong, however short the timeout
ASK_TIMEOUT_S = 5.0
LONGEST_GAP_S = 3 * LOOK_INTERVAL_S + ASK_TIMEOUT_S  # after which we, or the machine, stood still ourselves

Model = tuple[str, str]  # name and version
Series = Mapping[str, float]  # of one model: metric, or metric{reason or outcome} -> value

_OURS = "bert_text_"
_SUCCESS = "nv_inference_request_success"
_LINE = re.compile(
    rf"^(?P<metric>(?:nv_inference|{_OURS})\w*)\{{(?P<labels>.*)\}} (?P<value>[\d.]+(?:e[+-]?\d+)?)$", re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_KINDS = ("reason", "outcome")


def text_models(page: str) -> dict[Model, Series]:
    """What a page of Triton's metrics has of each version of each text model: those that have metrics of their own.

    Most series of a version outlive it; how often it succeeded does not.
    """
    models: defaultdict[Model, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in _LINE.finditer(page):
        labels = dict(_LABEL.findall(line["labels"]))
        kind = "".join(f"{{{labels[label]}}}" for label in _KINDS if label in labels)
        models[labels.get("model", ""), labels.get("version", "")][line["metric"] + kind] += float(line["value"])
    return {
        model: series
        for model, series in models.items()
        if _SUCCESS in series and any(name.startswith(_OURS) for name in series)
    }


@dataclass(frozen=True)
class Stage:
    """A part of a text model that can stand still.

    Attributes:
        waiting: how much waits for it at this moment.
        failed: requests that failed on their way to it; empty: that says nothing about it.
        progress: the beginnings of the series that grow while it works.
        fault: what is said of it.
    """

    waiting: str
    failed: str
    progress: tuple[str, ...]
    fault: str

    def worked(self, before: Series, after: Series) -> bool:
        """Whether it did something in between, or began anew."""
        return self._progress(before) != self._progress(after)

    def asked(self, before: Series, after: Series) -> bool:
        """Whether something waits for it, or has failed since."""
        return after.get(self.waiting, 0) > 0 or after.get(self.failed, 0) > before.get(self.failed, 0)

    def _progress(self, series: Series) -> dict[str, float]:
        return {name: value for name, value in series.items() if name.startswith(self.progress)}


STAGES = (
    Stage(
        waiting="nv_inference_pending_request_count",
        failed="nv_inference_request_failure{BACKEND}",
        progress=(_SUCCESS, "bert_text_requests_total", "bert_text_executions_total"),
        fault="has answered nothing for {:.0f} s though it was asked",
    ),
    # Triton counts a request as done once it is in the queue, and others than the threads that compute tell requests
    # that the queue is full or that their time is over.
    Stage(
        waiting="bert_text_waiting_texts",
        failed="",
        progress=(
            "bert_text_executions_total",
            "bert_text_rejected_texts_total",
            "bert_text_requests_total{cancelled}",
        ),
        fault="has computed nothing for {:.0f} s though texts wait",
    ),
)


@dataclass
class _Count:
    """For how long something has been wrong without a break."""

    looks: int = 0
    since_s: float = 0.0

    def wrong(self, now_s: float) -> None:
        self.since_s = self.since_s if self.looks else now_s
        self.looks += 1

    def lasts_s(self, now_s: float) -> float:
        return now_s - self.since_s if self.looks >= MIN_LOOKS else 0.0


@dataclass
class _Standstill:
    """A stage of a model: its series when it last worked, and how long it has been asked in vain since."""

    worked: Series
    count: _Count = field(default_factory=_Count)


@dataclass(frozen=True)
class Suspect:
    """What seems to hang: a version of a text model, or tritonserver (None); and how to say it."""

    model: Model | None
    fault: str


class Hangs:
    """The rule: what is suspected after each look at the metrics of one tritonserver.

    Args:
        timeout_s: how long something must be wrong.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._stages: dict[tuple[Model, Stage], _Standstill] = {}
        self._silence = _Count()
        self._looked_s: float | None = None

    def look(self, page: str | None, now_s: float) -> list[Suspect]:
        """Takes the page of metrics of this moment; None: it could not be had."""
        if self._looked_s is None or now_s - self._looked_s > LONGEST_GAP_S:
            self._stages, self._silence = {}, _Count()
        self._looked_s = now_s
        if page is None:
            self._silence.wrong(now_s)
            lasts_s = self._silence.lasts_s(now_s)
            over = lasts_s >= self.timeout_s
            return [Suspect(None, f"tritonserver has not answered for {lasts_s:.0f} s")] if over else []
        self._silence = _Count()
        found = {(model, stage): series for model, series in text_models(page).items() for stage in STAGES}
        self._stages = {key: self._standstill(key, series, now_s) for key, series in found.items()}
        return [
            Suspect(model, f"version {model[1]} of text model {model[0]} {stage.fault.format(lasts_s)}")
            for (model, stage), still in self._stages.items()
            if (lasts_s := still.count.lasts_s(now_s)) >= self.timeout_s
        ]

    def _standstill(self, key: tuple[Model, Stage], series: Series, now_s: float) -> _Standstill:
        stage, still = key[1], self._stages.get(key)
        if still is None or stage.worked(still.worked, series):
            return _Standstill(series)
        if not stage.asked(still.worked, series):
            still.count = _Count()
        else:
            still.count.wrong(now_s)
        return still


class HangWatch:
    """Looks at a server that is ready, until it is closed; one for each tritonserver.

    Args:
        server: gives out metrics.
        timeout_s: how long something must be wrong.

    Attributes:
        fault: what hangs, in words; None while nothing does.
    """

    def __init__(self, server: TritonServer, timeout_s: float) -> None:
        self.fault: str | None = None
        self._probe = server.probe
        self._metrics = Probe(server.endpoints.connect_host, server.endpoints.metrics_port)
        self._hangs = Hangs(timeout_s)
        self._closed = threading.Event()
        threading.Thread(target=self._look_until_closed, name="hang-watch", daemon=True).start()

    def close(self) -> None:
        """Ends the looking, and does not wait for that."""
        self._closed.set()

    def _look_until_closed(self) -> None:
        while not self._closed.is_set():
            began_s = time.monotonic()
            self.fault = self._look()
            self._closed.wait(max(0.0, LOOK_INTERVAL_S - (time.monotonic() - began_s)))

    def _look(self) -> str | None:
        page = self._page()
        suspects = self._hangs.look(page, time.monotonic())
        return next((suspect.fault for suspect in suspects if not self._answers(suspect)), None)

    def _answers(self, suspect: Suspect) -> bool:
        """Asks; a text model a new text, since known ones come out of a cache whatever hangs behind it."""
        try:
            if suspect.model is None:
                self._probe.version()
            else:
                name, version = suspect.model
                self._probe.ask(name, f"Is anybody there? {random.randrange(10**9)}", ASK_TIMEOUT_S, version)
        except NotReady:
            return False
        return True

    def _page(self) -> str | None:
        try:
            return self._metrics.metrics()
        except NotReady:
            return None
