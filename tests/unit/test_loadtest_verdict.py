"""Every rule of the verdict, on both sides of its threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtest import verdict
from loadtest.cell import (
    FAILED,
    INTERRUPTED,
    INVALID,
    OK,
    CellSpec,
    ClientSide,
    Estimate,
    GeneratorSide,
    ModelCounters,
    ServerSide,
    TextSource,
    Workload,
)

CLOSED_SPEC = CellSpec(
    id="c", series="batch-size", url="grpc://192.0.2.1:8001", model="sentiment", workload=Workload(4)
)
OPEN_SPEC = replace(CLOSED_SPEC, workload=Workload(rate_per_s=100.0))
GENERATOR = GeneratorSide(
    processes=1,
    max_cpu_share=0.3,
    cpu_cores=0.3,
    loop_lag_p99_ms=0.4,
    send_lag_p99_ms=None,
    missed_sends=0,
    unfinished=0,
    reasked=50,
    changed=0,
    mean_request_bytes=200.0,
    lengths="words: mean 21.4, p95 47",
)
MODEL = ModelCounters("sentiment", "1", 1000, 0, 1000, 900, 0.1, 0.1, 5.0, 0.1, 0)
SERVER = ServerSide((MODEL,), 0, 20_000, 1_000, "CPU", 0.5, 2**30)


def client(
    requests: int = 1000, *, p99_ms: float = 20.0, answered: int | None = None, failures: dict[str, int] | None = None
) -> ClientSide:
    """Ten seconds, all percentiles with intervals."""
    rate = Estimate((requests if answered is None else answered) / 10.0)
    return ClientSide(
        duration_s=10.0,
        requests=requests,
        failures=failures or {},
        failure_examples={kind: f"an example of {kind}" for kind in failures or {}},
        requests_per_s=rate,
        sentences_per_s=rate,
        latency_ms={
            name: Estimate(value, value - 1, value + 1)
            for name, value in {"p50": 10.0, "p90": 12.0, "p95": 15.0, "p99": p99_ms}.items()
        }
        if requests
        else {},
        mean_latency_ms=10.0 if requests else None,
        max_latency_ms=30.0 if requests else None,
    )


def judge(
    spec: CellSpec = CLOSED_SPEC,
    seen: ClientSide | None = None,
    generator: GeneratorSide = GENERATOR,
    server: ServerSide | None = SERVER,
    *,
    interrupted: bool = False,
    **known: Any,
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return verdict.judge(spec, seen or client(), generator, server, interrupted=interrupted, **known)


def test_a_good_cell_is_ok_and_nothing_is_said() -> None:
    assert judge() == (OK, (), ())
    assert judge(OPEN_SPEC, generator=replace(GENERATOR, send_lag_p99_ms=0.5)) == (OK, (), ())


# --- Failed ---


def test_no_good_answer_fails_with_what_happened() -> None:
    found, reasons, _ = judge(seen=client(0, failures={"ServerUnreachableError": 7}))
    assert found == FAILED
    assert "no good answer in 10.0 s (all 7 requests failed)" in reasons[0]
    found, reasons, _ = judge(seen=client(0))
    assert found == FAILED
    assert reasons == (
        "there was no good answer in 10.0 s (no request ended): look at the failures and at the server's log",
    )


def test_the_error_limit_names_counts_kinds_and_an_example() -> None:
    spec = replace(CLOSED_SPEC, max_error_rate=0.01)
    assert judge(spec, client(990, failures={"OverloadedError": 10}))[0] == OK
    found, reasons, _ = judge(spec, client(989, failures={"ServerFaultError": 1, "OverloadedError": 10}))
    assert found == FAILED
    assert reasons == (
        "11 of 1,000 requests failed (1.10 %, limit 1.00 %): 10 x OverloadedError, 1 x ServerFaultError, for example "
        "'an example of OverloadedError'; lower the load, or find the cause in the server's log",
    )


def test_one_unfinished_request_fails() -> None:
    found, reasons, _ = judge(generator=replace(GENERATOR, unfinished=1))
    assert found == FAILED
    assert reasons[0].startswith("1 requests had no answer when the cell was ended")


@pytest.mark.parametrize("hit", [{"text_cache_hits": 1}, {"models": (replace(MODEL, cache_hits=1),)}])
def test_a_cache_may_answer_only_where_it_is_measured(hit: dict[str, Any]) -> None:
    server = replace(SERVER, **hit)
    found, reasons, _ = judge(server=server)
    assert found == FAILED
    assert reasons[0].startswith("1 answers came from a cache")
    assert judge(replace(CLOSED_SPEC, texts=TextSource(repeat_share=0.5)), server=server)[0] == OK


# --- Invalid ---


def test_the_busiest_process_has_a_fifth_of_its_core_to_spare() -> None:
    assert judge(generator=replace(GENERATOR, max_cpu_share=0.80))[0] == OK
    found, reasons, _ = judge(generator=replace(GENERATOR, max_cpu_share=0.84))
    assert found == INVALID
    assert "used 84 % of a core, more than 80 %" in reasons[0]
    assert "--processes" in reasons[0]


@pytest.mark.parametrize("field", ["loop_lag_p99_ms", "send_lag_p99_ms"])
def test_a_late_generator_is_invalid(field: str) -> None:
    def late(lag_ms: float) -> GeneratorSide:
        lags: dict[str, Any] = {field: lag_ms}
        return replace(GENERATOR, **lags)

    def verdict_of(lag_ms: float, p99_ms: float) -> str:
        return judge(OPEN_SPEC, client(p99_ms=p99_ms), late(lag_ms))[0]

    assert [verdict_of(2.0, 20.0), verdict_of(2.1, 20.0)] == [OK, INVALID]  # a tenth of the p99
    assert [verdict_of(1.0, 3.0), verdict_of(1.1, 3.0)] == [OK, INVALID]  # but a millisecond is nothing
    _, reasons, _ = judge(OPEN_SPEC, generator=late(3.0))
    assert "up to 3.00 ms late (p99), more than 2.00 ms" in reasons[0]


def test_waiting_for_a_core_that_the_server_uses_is_a_warning() -> None:
    """A closed workload on the server's machine: the probe wakes while the server computes, the users do not."""
    late = replace(GENERATOR, loop_lag_p99_ms=3.0)
    assert judge(generator=late)[0] == INVALID  # a remote server cannot be what holds its core
    found, reasons, warnings = judge(generator=late, cores=2.0)
    assert (found, reasons) == (OK, ())
    assert "3.00 ms (p99) for a core" in warnings[0]
    assert judge(OPEN_SPEC, generator=late, cores=2.0)[0] == INVALID  # it has sends to make meanwhile


def test_one_missed_send_is_invalid() -> None:
    found, reasons, _ = judge(OPEN_SPEC, generator=replace(GENERATOR, missed_sends=1))
    assert found == INVALID
    assert reasons[0].startswith("1 arrivals were not sent")


@pytest.mark.parametrize(("sent", "expected"), [(1000, OK), (1127, OK), (873, OK), (1128, INVALID), (872, INVALID)])
def test_arrivals_scatter_by_chance_and_no_more(sent: int, expected: str) -> None:
    # 100 a second for 10 s: 1,000, give or take four times its root and one: 127.5.
    server = replace(SERVER, models=(replace(MODEL, requests=sent),))
    found, reasons, _ = judge(OPEN_SPEC, client(sent), server=server)
    assert found == expected
    assert all("where 100 were asked for" in reason for reason in reasons)
    assert judge(CLOSED_SPEC, client(sent), server=server)[0] == OK


def test_the_servers_own_failures_are_not_blamed_on_a_busy_generator() -> None:
    busy = replace(GENERATOR, max_cpu_share=0.95)
    refused = client(500, failures={"OverloadedError": 500})
    found, reasons, _ = judge(seen=refused, generator=busy)
    assert found == FAILED
    assert len(reasons) == 2
    late = client(500, failures={"DeadlineExceededError": 500})
    assert judge(seen=late)[0] == FAILED
    found, reasons, _ = judge(seen=late, generator=busy)
    assert found == INVALID
    assert "busiest process" in reasons[0]
    assert "500 of 1,000 requests failed" in reasons[1]
    assert judge(seen=client(0, failures={"DeadlineExceededError": 500}), generator=busy)[0] == FAILED
    assert judge(generator=busy, server=replace(SERVER, text_cache_hits=1))[0] == FAILED


def test_interrupted_comes_before_everything() -> None:
    found, reasons, _ = judge(seen=client(5, failures={"OverloadedError": 500}), interrupted=True)
    assert found == INTERRUPTED
    assert reasons[0] == "ended by hand after 10.0 s; resume the run to measure it again"
    assert "500 of 505" in reasons[1]
    assert judge(interrupted=True)[:2] == (INTERRUPTED, reasons[:1])


# --- Warnings ---


def warned(*arguments: Any, **options: Any) -> str:
    found, reasons, warnings = judge(*arguments, **options)
    assert (found, reasons) == (OK, ())
    return "; ".join(warnings)


def test_a_small_sample_says_how_many_it_takes() -> None:
    seen = client(60)
    server = replace(SERVER, models=(replace(MODEL, requests=60),))
    small = replace(seen, latency_ms={**seen.latency_ms, "p95": Estimate(15.0, 14.0), "p99": Estimate(20.0, 19.0)})
    assert warned(seen=small, server=server) == (
        "60 requests are too few for a 95 % interval of p95 and p99, which takes 72 and 368: measure for longer "
        "(--min-requests, --max-duration-s)"
    )
    assert warned(seen=seen, server=server) == ""


def test_changed_replies_are_told() -> None:
    assert warned(generator=replace(GENERATOR, changed=3)).startswith("3 of 50 replies were different")


def test_unread_counters_are_told_with_the_reason() -> None:
    assert warned(server=None).startswith("the server's counters could not be read")
    assert warned(server=None, server_problem="because") == "because"
    assert warned(server_problem="no metrics") == "no metrics"


def test_another_user_of_the_server_is_noticed() -> None:
    # 4 users at either end, half a second of 100 requests/s: 58 requests are explained.
    def counted(requests: int) -> str:
        return warned(server=replace(SERVER, models=(replace(MODEL, requests=requests),)))

    assert counted(1058) == counted(942) == ""
    assert counted(1059).startswith("the server answered 59 requests more than the 1,000 of this cell: somebody else")
    assert counted(941).startswith("the server counted 59 requests fewer than the 1,000 of this cell")


def test_failures_that_the_server_answered_too_late_are_no_other_user() -> None:
    spec = replace(CLOSED_SPEC, max_error_rate=0.5)
    seen = client(900, failures={"DeadlineExceededError": 100}, answered=900)
    assert warned(spec, seen) == ""


def test_a_growing_queue_is_told_for_open_workloads() -> None:
    def answered(count: int, spec: CellSpec = OPEN_SPEC) -> str:
        server = replace(SERVER, models=(replace(MODEL, requests=count),))
        return warned(spec, client(1000, answered=count), server=server)

    assert answered(950) == ""
    assert answered(949).startswith(
        "the server did not keep up: 949 answers to 1,000 requests, so the queue grew by 51"
    )
    assert answered(949, CLOSED_SPEC) == ""
    slow = replace(OPEN_SPEC, workload=Workload(rate_per_s=1.0))
    few = client(10, answered=5)
    server = replace(SERVER, models=(replace(MODEL, requests=5),))
    assert warned(slow, few, server=server) == ""  # five may simply be under way


def test_shared_cores_are_told_with_the_generators_share() -> None:
    def used(server_share: float, **options: Any) -> str:
        return warned(server=replace(SERVER, utilisation=server_share, **options), cores=2.0)

    assert used(0.79) == ""  # 1.58 + 0.3 of 2 cores
    assert used(0.85) == (
        "generator and server share one machine and used 2.00 of its 2 cores, 0.30 of them the generator (15 %): "
        "with a generator elsewhere the server may do better"
    )
    assert used(0.95, device="GPU") == ""
    assert warned(server=replace(SERVER, utilisation=None), cores=2.0) == ""
    assert warned(server=replace(SERVER, utilisation=1.0)) == ""  # 192.0.2.1 is not this machine


def test_the_shared_machine_is_found_by_the_url() -> None:
    spec = replace(CLOSED_SPEC, url="grpc://127.0.0.1:8001")
    assert "share one machine" in warned(spec, server=replace(SERVER, utilisation=1.0))
