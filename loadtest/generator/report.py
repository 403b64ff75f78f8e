"""What one load-generating process measured, and how the reports of several become one outcome.

Owns the report, its bytes in a message to the master, and the sums. No gevent, no Locust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtest.cell import CellSpec, GeneratorSide
from loadtest.generator.outcome import Outcome
from loadtest.generator.recorder import Floats
from loadtest.payloads import describe_lengths
from loadtest.samples import Samples
from loadtest.target import Target

_NOTHING = np.zeros(0)


@dataclass(frozen=True)
class Report:
    """What one process measured; see `GeneratorSide` and `Samples` for the words.

    Attributes:
        loop_lags_s: how late the event loop woke, each time inside the window.
        send_lags_s: actual minus intended send time of the window's calls.
        length_counts: how many texts of each length were sent.
    """

    samples: Samples
    duration_s: float
    cpu_s: float
    loop_lags_s: Floats
    send_lags_s: Floats
    missed_sends: int
    unfinished: int
    mean_request_bytes: float
    failure_examples: dict[str, str] = field(default_factory=dict)
    length_counts: dict[int, int] = field(default_factory=dict)

    def to_message(self) -> dict[str, Any]:
        """As Locust's messages carry it: numbers, texts and bytes."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "loop_lags_s": self.loop_lags_s.tobytes(),
            "send_lags_s": self.send_lags_s.tobytes(),
            "failure_kinds": list(self.samples.failure_kinds),
            "arrays": {name: getattr(self.samples, name).tobytes() for name in _ARRAYS},
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Report:
        """Reads what `to_message` wrote."""
        arrays = {name: np.frombuffer(message["arrays"][name], dtype) for name, dtype in _ARRAYS.items()}
        return cls(
            samples=Samples(failure_kinds=tuple(message["failure_kinds"]), **arrays),
            loop_lags_s=np.frombuffer(message["loop_lags_s"]),
            send_lags_s=np.frombuffer(message["send_lags_s"]),
            **{name: message[name] for name in _PLAIN},
        )


_ARRAYS = {"begin_s": np.float64, "latency_s": np.float64, "kind": np.uint8, "ends_s": np.float64}
_PLAIN = (
    "duration_s",
    "cpu_s",
    "missed_sends",
    "unfinished",
    "mean_request_bytes",
    "failure_examples",
    "length_counts",
)


def combine(
    spec: CellSpec,
    target: Target,
    reports: Sequence[Report],
    *,
    reasked: tuple[int, int] = (0, 0),
    other_cpu_s: float = 0.0,
    interrupted: bool = False,
    started_at: str = "",
) -> Outcome:
    """One outcome of the reports of all processes.

    Args:
        spec: the cell.
        target: who was asked.
        reports: of every process; none if the window never began.
        reasked: answers that were compared, and how many differed.
        other_cpu_s: CPU seconds of a process that led the others, over the window.
        interrupted: ended by hand.
        started_at: when the window began.
    """
    samples = merge([report.samples for report in reports])
    examples = {kind: message for report in reports for kind, message in report.failure_examples.items()}
    seen = {samples.failure_kinds[kind - 1] for kind in np.unique(samples.kind).tolist() if kind}
    return Outcome(
        samples=samples,
        side=_side(spec, target, reports, reasked, other_cpu_s),
        failure_examples={kind: message for kind, message in examples.items() if kind in seen},
        duration_s=max((report.duration_s for report in reports), default=0.0),
        interrupted=interrupted,
        started_at=started_at,
    )


def merge(parts: Sequence[Samples]) -> Samples:
    """Samples of several processes as one, in the order in which they ended."""
    kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.failure_kinds))
    begin_s, latency_s, ends_s = (
        np.concatenate([_NOTHING, *(getattr(part, name) for part in parts)])
        for name in ("begin_s", "latency_s", "ends_s")
    )
    kind = np.concatenate([np.zeros(0, np.uint8), *(_renumbered(part, kinds) for part in parts)])
    order = np.argsort(begin_s + latency_s, kind="stable")
    return Samples(begin_s[order], latency_s[order], kind[order], kinds, np.sort(ends_s))


def _renumbered(part: Samples, kinds: tuple[str, ...]) -> Any:
    numbers = np.array([0, *(1 + kinds.index(kind) for kind in part.failure_kinds)], np.uint8)
    return numbers[part.kind]


def _side(
    spec: CellSpec, target: Target, reports: Sequence[Report], reasked: tuple[int, int], other_cpu_s: float
) -> GeneratorSide:
    shares = [report.cpu_s / report.duration_s for report in reports if report.duration_s]
    longest_s = max((report.duration_s for report in reports), default=0.0)
    open_workload = spec.workload.users is None
    calls = [len(report.send_lags_s) for report in reports]
    request_bytes = sum(report.mean_request_bytes * count for report, count in zip(reports, calls, strict=True))
    return GeneratorSide(
        processes=max(1, len(reports)),
        max_cpu_share=max(shares, default=0.0),
        cpu_cores=sum(shares) + (other_cpu_s / longest_s if longest_s else 0.0),
        loop_lag_p99_ms=max((p99_ms([report.loop_lags_s]) for report in reports), default=0.0),
        send_lag_p99_ms=p99_ms([report.send_lags_s for report in reports]) if open_workload else None,
        missed_sends=sum(report.missed_sends for report in reports),
        unfinished=sum(report.unfinished for report in reports),
        reasked=reasked[0],
        changed=reasked[1],
        mean_request_bytes=request_bytes / sum(calls) if sum(calls) else 0.0,
        lengths=describe_lengths(spec, target, _sum_counts(reports)) if reports else "",
    )


def _sum_counts(reports: Sequence[Report]) -> dict[int, int]:
    total: dict[int, int] = {}
    for report in reports:
        for length, count in report.length_counts.items():
            total[length] = total.get(length, 0) + count
    return total


def p99_ms(parts_s: Sequence[Floats]) -> float:
    """The 99th percentile (nearest rank) of all parts together, in milliseconds; 0 of nothing."""
    values_s = np.concatenate([_NOTHING, *parts_s])
    return float(np.quantile(values_s, 0.99, method="inverted_cdf")) * 1e3 if len(values_s) else 0.0
