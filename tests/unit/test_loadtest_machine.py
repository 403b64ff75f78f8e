"""The words for a machine, and whether a host is this one."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from loadtest.server_side import machine

XEON = (
    "model name\t: Intel(R) Xeon(R)  Processor @ 2.50GHz\nflags\t\t: fpu avx avx2 avx512f {}\nmodel name\t: another\n"
)
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd asimddp sve i8mm bf16\nCPU implementer\t: 0x41\n"


def test_names_and_instruction_sets_are_those_of_cpuinfo() -> None:
    new = XEON.format("avx512_vnni amx_int8 amx_bf16 avx512_bf16")
    assert machine.processor_name(new) == "Intel(R) Xeon(R) Processor @ 2.50GHz"
    assert machine.instruction_sets(new) == "AVX-512 VNNI, AMX int8, AMX bf16, AVX-512 bf16"
    assert machine.instruction_sets(XEON.format("")) == "AVX-512"
    assert machine.instruction_sets(GRAVITON) == "dot product, I8MM, bf16, SVE"
    assert machine.instruction_sets("") == ""
    assert machine.processor_name(GRAVITON)  # has no name; something must stand there all the same
    assert machine.processor_name("")


def test_gpus_are_counted_by_name() -> None:
    assert machine.gpus_from("NVIDIA A100-SXM4-80GB, 81920\nNVIDIA A100-SXM4-80GB, 81920\nTesla T4, 15360\n") == (
        "2 x NVIDIA A100-SXM4-80GB (80 GB), 1 x Tesla T4 (15 GB)"
    )
    assert machine.gpus_from("NVIDIA GB10, [N/A]\n") == "1 x NVIDIA GB10"
    assert machine.gpus_from("\n") == "no GPU"


def test_this_machine_has_cores_and_memory() -> None:
    assert 0 < machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert 2**28 < machine.memory_bytes() <= psutil.virtual_memory().total
    told = machine.describe()
    assert f"{machine.usable_cores():.3g} core" in told
    assert " GB; " in told


def test_affinity_is_what_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() <= 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", socket.gethostname()])
def test_this_machine_has_many_names(host: str) -> None:
    assert machine.is_here(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "absent.invalid", "", "x" * 300])
def test_other_machines_are_elsewhere(host: str) -> None:
    assert machine.is_here(host) is (host == "" and machine.is_here(""))
    if host:
        assert machine.hardware_of(f"grpc://{f'[{host}]' if ':' in host else host}:8001") == f"remote host {host}"


def test_a_local_url_is_this_machine() -> None:
    assert machine.hardware_of("grpc://localhost:8001") == machine.describe()
