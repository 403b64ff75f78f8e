"""Whether a cell may be believed: its verdict, the reasons for it, and what a reader must know besides.

Owns every threshold and its reason. Says what is wrong, with the number, and what to do; measures nothing. A rule is
a function from a case to sentences; the tables `FAILED_RULES`, `INVALID_RULES` and `WARNING_RULES` say what they
amount to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.cell import (
    FAILED,
    INTERRUPTED,
    INVALID,
    KEEPING_UP_SHARE,
    OK,
    CellSpec,
    ClientSide,
    GeneratorSide,
    ServerSide,
)
from loadtest.server_side import machine
from loadtest.statistics import SHARES, smallest_sample

# The busiest process may use this much of the one core that a Python process can have. The other fifth is what bursts
# need: Grafana's guide to k6, "Running large tests", asks for 20 % of idle CPU on the load generator, as a busier one
# reports response times that the server does not have. (Locust itself warns at 90 %, when its figures are already off.)
MAX_GENERATOR_CPU_SHARE = 0.8
# A late event loop sends late and reads answers late, so its lag is in the latencies. A tenth of the p99 is the
# agreement with an independent tool that is claimed; a millisecond is what a scheduler does on a busy machine.
MAX_LAG_SHARE = 0.1
MIN_LAG_MS = 1.0
# Poisson arrivals of N requests on average scatter by the root of N; four times that happens by chance once in 16,000
# cells.
ARRIVALS_DEVIATIONS = 4.0
# Below `KEEPING_UP_SHARE` the queue grows, unless the difference is so few requests that those under way at the two
# ends of the window explain it.
MIN_QUEUE_GROWTH = 5
# Counters are read some time after the window begins and ends: a message from the generator, a call to a busy server.
COUNTER_DELAY_S = 0.5
# Of all cores. What is missing to 100 % is what the operating system takes for itself.
ALL_CORES_SHARE = 0.95

# What a generator that is late can cause by itself; every other failure is the server's own word.
LATE = "DeadlineExceededError"


@dataclass(frozen=True)
class Case:
    """What is known of a cell.

    Attributes:
        server_problem: what could not be read of the server's side; "" if all could.
        cores: of the machine that generator and server share; None if they do not share one.
    """

    spec: CellSpec
    client: ClientSide
    generator: GeneratorSide
    server: ServerSide | None
    server_problem: str
    cores: float | None

    @property
    def begun(self) -> int:
        """Requests begun in the window, whatever became of them."""
        return self.client.requests + self.client.failed

    @property
    def answered(self) -> int:
        """Good answers that came inside the window, also to requests begun before it."""
        return round(self.client.requests_per_s.value * self.client.duration_s)

    @property
    def max_lag_ms(self) -> float:
        """How late the generator may be."""
        p99 = self.client.latency_ms.get("p99")
        return max(MIN_LAG_MS, MAX_LAG_SHARE * p99.value) if p99 else MIN_LAG_MS


Rule = Callable[[Case], Iterator[str]]


def judge(
    spec: CellSpec,
    client: ClientSide,
    generator: GeneratorSide,
    server: ServerSide | None,
    *,
    interrupted: bool,
    server_problem: str = "",
    cores: float | None = None,
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Judges a cell.

    A cell that was ended by hand is `INTERRUPTED`, whatever else is wrong with it. One that broke a limit by what the
    server itself did is `FAILED`, however busy the generator was; one that may have broken it because the generator was
    late is `INVALID`.

    Args:
        spec: what was to be measured.
        client: what the users saw.
        generator: what the generator did.
        server: what the server says; None if its counters could not be read.
        interrupted: ended by hand before its time.
        server_problem: why, or what of it could not be read.
        cores: of the machine that generator and server share; None finds out.

    Returns:
        The verdict; its reasons, empty if it is `OK`; warnings.
    """
    if cores is None and machine.is_here(urlsplit(spec.url).hostname or ""):
        cores = machine.usable_cores()
    case = Case(spec, client, generator, server, server_problem, cores)
    failed, invalid, warnings = (_said(rules, case) for rules in (FAILED_RULES, INVALID_RULES, WARNING_RULES))
    if interrupted:
        ended = f"ended by hand after {client.duration_s:.1f} s; resume the run to measure it again"
        return INTERRUPTED, (ended, *failed, *invalid), warnings
    if failed and (not invalid or _is_the_servers(case)):
        return FAILED, (*failed, *invalid), warnings
    if invalid:
        return INVALID, (*invalid, *failed), warnings
    return OK, (), warnings


def _said(rules: tuple[Rule, ...], case: Case) -> tuple[str, ...]:
    return tuple(sentence for rule in rules for sentence in rule(case))


def _is_the_servers(case: Case) -> bool:
    """Whether the cell failed by something that no late generator causes."""
    its_own = case.client.failed - case.client.failures.get(LATE, 0)
    refused = case.begun > 0 and its_own / case.begun > case.spec.max_error_rate
    return refused or not case.client.requests or bool(list(_cache_hits(case)))


# --- Failed: the server broke a limit ---


def _nothing_answered(case: Case) -> Iterator[str]:
    if not case.client.requests:
        what = f"all {case.begun:,} requests failed" if case.begun else "no request ended"
        yield (
            f"there was no good answer in {case.client.duration_s:.1f} s ({what}): "
            "look at the failures and at the server's log"
        )


def _error_rate(case: Case) -> Iterator[str]:
    client, limit = case.client, case.spec.max_error_rate
    if client.error_rate > limit:
        kinds = sorted(client.failures.items(), key=lambda one: -one[1])
        listed = ", ".join(f"{count:,} x {kind}" for kind, count in kinds)
        example = client.failure_examples.get(kinds[0][0], "")
        yield (
            f"{client.failed:,} of {case.begun:,} requests failed ({100 * client.error_rate:.2f} %, limit "
            f"{100 * limit:.2f} %): {listed}"
            f"{f', for example {example!r}' if example else ''}; lower the load, or find the cause in the server's log"
        )


def _unfinished(case: Case) -> Iterator[str]:
    if case.generator.unfinished:
        yield (
            f"{case.generator.unfinished:,} requests had no answer when the cell was ended: the true latencies are "
            "longer than those measured; lower the load"
        )


def _cache_hits(case: Case) -> Iterator[str]:
    if case.server and case.server.cache_hits and not case.spec.texts.repeat_share:
        yield (
            f"{case.server.cache_hits:,} answers came from a cache and not from the model: give texts that differ "
            "(--texts), switch the cache off, or measure it on purpose (--repeat-share)"
        )


FAILED_RULES: tuple[Rule, ...] = (_nothing_answered, _error_rate, _unfinished, _cache_hits)


# --- Invalid: the generator was the bottleneck ---


def _generator_busy(case: Case) -> Iterator[str]:
    share = case.generator.max_cpu_share
    if share > MAX_GENERATOR_CPU_SHARE:
        yield (
            f"the load generator was the bottleneck: its busiest process used {100 * share:.0f} % of a core, more than "
            f"{100 * MAX_GENERATOR_CPU_SHARE:.0f} %; give it more processes (--processes) or a machine of its own"
        )


def _generator_late(case: Case) -> Iterator[str]:
    if not _waits_for_a_core(case) and case.generator.loop_lag_p99_ms > case.max_lag_ms:
        yield _late(case, "event loop woke", case.generator.loop_lag_p99_ms)
    send_lag_ms = case.generator.send_lag_p99_ms
    if send_lag_ms is not None and send_lag_ms > case.max_lag_ms:
        yield _late(case, "requests were sent", send_lag_ms)


def _late(case: Case, what: str, lag_ms: float) -> str:
    return (
        f"the load generator was late: its {what} up to {lag_ms:.2f} ms late (p99), more than "
        f"{case.max_lag_ms:.2f} ms; stop what else runs there, lower the load, or add processes (--processes)"
    )


def _waits_for_a_core(case: Case) -> bool:
    """Whether a late event loop may only mean that the server was computing on the generator's core.

    A closed workload sends when it has read an answer, and most wake-ups of the probe fall into the time in which it
    has nothing to do but wait for one. Where the server is busy on the same machine they are late without any request
    being so; an open workload is judged by its sends.
    """
    return case.cores is not None and case.spec.workload.users is not None


def _missed_sends(case: Case) -> Iterator[str]:
    if case.generator.missed_sends:
        yield (
            f"{case.generator.missed_sends:,} arrivals were not sent, because too many requests were already waiting: "
            "the load was less than asked for; lower the rate"
        )


def _arrivals(case: Case) -> Iterator[str]:
    rate_per_s, duration_s = case.spec.workload.rate_per_s, case.client.duration_s
    if rate_per_s is None or not duration_s:
        return
    expected = rate_per_s * duration_s
    if abs(case.begun - expected) > 1 + ARRIVALS_DEVIATIONS * math.sqrt(expected):
        yield (
            f"{case.begun / duration_s:.4g} requests/s were sent where {rate_per_s:.4g} were asked for, further off "
            "than chance: the load generator did not keep the rate; lower it, or give it more processes (--processes)"
        )


INVALID_RULES: tuple[Rule, ...] = (_generator_busy, _generator_late, _missed_sends, _arrivals)


# --- Warnings ---


def _small_sample(case: Case) -> Iterator[str]:
    wanting = [name for name, one in case.client.latency_ms.items() if one.low is None or one.high is None]
    if wanting:
        takes = [f"{smallest_sample(SHARES[name]):,}" for name in wanting if name in SHARES]
        yield (
            f"{case.client.requests:,} requests are too few for a 95 % interval of {_listed(wanting)}, which takes "
            f"{_listed(takes)}: measure for longer (--min-requests, --max-duration-s)"
        )


def _changed(case: Case) -> Iterator[str]:
    if case.generator.changed:
        yield (
            f"{case.generator.changed:,} of {case.generator.reasked:,} replies were different when the same request "
            "was sent again alone: the answer depends on what it is batched with; compare the accuracy under load"
        )


def _server_unread(case: Case) -> Iterator[str]:
    if case.server_problem or case.server is None:
        yield (
            case.server_problem or "the server's counters could not be read: its own times and cache hits are unknown"
        )


def _other_requests(case: Case) -> Iterator[str]:
    """Requests at both ends of the window, and failures that the server may have answered, explain some difference."""
    if case.server is None or not case.server.models:
        return
    client = case.client
    per_s = client.requests_per_s.value
    at_once = case.spec.workload.users or per_s * (client.max_latency_ms or 0.0) / 1e3
    explained = 2 * at_once + per_s * COUNTER_DELAY_S + client.failed
    surplus = case.server.models[0].requests - case.answered
    if surplus > explained:
        yield (
            f"the server answered {surplus:,} requests more than the {case.answered:,} of this cell: somebody else is "
            "using the model; measure again when it is alone"
        )
    elif -surplus > explained:
        yield (
            f"the server counted {-surplus:,} requests fewer than the {case.answered:,} of this cell: others answer at "
            f"{case.spec.url} too (replicas, a cache before the server), and the server's columns are of a part only"
        )


def _not_keeping_up(case: Case) -> Iterator[str]:
    sent = case.begun - case.client.failed
    growth = sent - case.answered
    if case.spec.workload.users is None and growth > max(MIN_QUEUE_GROWTH, (1 - KEEPING_UP_SHARE) * sent):
        yield (
            f"the server did not keep up: {case.answered:,} answers to {sent:,} requests, so the queue grew by "
            f"{growth:,}; the latencies are those of this duration and grow with it: lower the rate"
        )


def _contention(case: Case) -> Iterator[str]:
    lag_ms = case.generator.loop_lag_p99_ms
    if _waits_for_a_core(case) and lag_ms > case.max_lag_ms:
        yield (
            f"the load generator waited up to {lag_ms:.2f} ms (p99) for a core that the server was using, and "
            "latencies may hold some of that: let it run at real-time priority (root, or CAP_SYS_NICE), or on another "
            "machine"
        )


def _all_cores(case: Case) -> Iterator[str]:
    server, cores = case.server, case.cores
    if not cores or server is None or server.device != "CPU" or server.utilisation is None:
        return
    generator = case.generator.cpu_cores
    used = server.utilisation * cores + generator
    if used >= ALL_CORES_SHARE * cores:
        yield (
            f"generator and server share one machine and used {min(used, cores):.2f} of its {cores:.3g} cores, "
            f"{generator:.2f} of them the generator ({100 * generator / used:.0f} %): with a generator elsewhere the "
            "server may do better"
        )


WARNING_RULES: tuple[Rule, ...] = (
    _small_sample,
    _changed,
    _server_unread,
    _other_requests,
    _not_keeping_up,
    _contention,
    _all_cores,
)


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
