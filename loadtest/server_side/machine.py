"""This machine in a few words, and whether a URL is this machine.

Owns what a row says under "hardware": the processor, the cores that may be used, the instruction sets that make INT8
and bf16 fast, memory, GPUs. Measures nothing.
"""

from __future__ import annotations

import math
import os
import platform
import re
import socket
import subprocess
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil

CPUINFO = Path("/proc/cpuinfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")

# What Linux calls the instruction sets that decide how fast a quantised or bf16 model runs, and what people call them.
INSTRUCTION_SETS = (
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX VNNI"),
    ("amx_int8", "AMX int8"),
    ("amx_bf16", "AMX bf16"),
    ("avx512_bf16", "AVX-512 bf16"),
    ("asimddp", "dot product"),
    ("i8mm", "I8MM"),
    ("bf16", "bf16"),
    ("sve", "SVE"),
)
# Without one of those, the widest of these says how fast the machine can be.
WIDEST = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("asimd", "NEON"))

GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
GPU_TIMEOUT_S = 10.0  # a broken driver lets nvidia-smi hang; a healthy one without persistence takes some seconds
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # as a destination
UNLIMITED_BYTES = 2**60  # cgroups of version 1 write "no limit" as a number about as large as can be


@lru_cache(maxsize=1)
def describe() -> str:
    """This machine: processor, usable cores, instruction sets, memory, GPUs; always the same in one process."""
    cores = usable_cores()
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    sets = instruction_sets(text)
    return (
        f"{processor_name(text)}, {cores:.3g} core{'' if cores == 1 else 's'}{f' ({sets})' if sets else ''}, "
        f"{memory_bytes() / 2**30:.0f} GB; {gpus()}"
    )


def hardware_of(url: str) -> str:
    """`describe` if the URL's server is on this machine, else that it is elsewhere."""
    host = urlsplit(url).hostname or ""
    if not is_here(host):
        return f"remote host {host}"
    from loadtest.server_side import processes

    forwarder = processes.forwarder_elsewhere(url)
    return f"unknown: {host} is reached through {forwarder}" if forwarder else describe()


def is_here(host: str) -> bool:
    """Whether a host's name or address is one of this machine's; False if the name is not known."""
    own = {_plain(address.address) for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(address in own or ip_address(address).is_loopback for address in addresses_of(host))


def addresses_of(host: str) -> set[str]:
    """IP addresses of a host's name; none if the name is not known. Those that mean "any" become loopback."""
    try:
        found = {_plain(str(entry[4][0])) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()
    return {LOOPBACK.get(address, address) for address in found}


def _plain(address: str) -> str:
    return address.partition("%")[0].lower().removeprefix("::ffff:")


# --- Processor ---


def processor_name(cpuinfo: str) -> str:
    """The name in ``/proc/cpuinfo``, else what Python knows."""
    for key in ("model name", "Model", "cpu model", "Hardware"):
        if found := re.search(rf"^{key}\s*: (.+)$", cpuinfo, re.MULTILINE):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine() or "unknown processor"


def instruction_sets(cpuinfo: str) -> str:
    """Those that matter for int8 and bf16, else the widest; "" if nothing is known."""
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    names = [name for flag, name in INSTRUCTION_SETS if flag in flags]
    return ", ".join(names or [name for flag, name in WIDEST if flag in flags][:1])


def usable_cores() -> float:
    """Cores that this process may use: its affinity, or the quota of its control group where that is less."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(float(affinity), _quota_cores())


def _quota_cores() -> float:
    quotas = [math.inf]
    for folder in _cgroup_folders("cpu"):
        version_2 = _words(folder / "cpu.max")
        version_1 = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        for quota, period in (pair for pair in (version_2, version_1) if len(pair) == 2):
            if quota.isdecimal() and period.isdecimal() and int(period):
                quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_bytes() -> int:
    """Memory of the machine, or the limit of this process's control group where that is less."""
    limits = [psutil.virtual_memory().total]
    for folder in _cgroup_folders("memory"):
        words = _words(folder / "memory.max") + _words(folder / "memory.limit_in_bytes")
        limits += [int(word) for word in words if word.isdecimal() and int(word) < UNLIMITED_BYTES]
    return min(limits)


def _cgroup_folders(controller: str) -> list[Path]:
    """This process's control group and those above it, whose limits hold as well; of both versions of cgroups."""
    folders = []
    for line in _lines(OWN_CGROUP):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        folder = root / path.lstrip("/")
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return folders


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


# --- GPUs ---


def gpus() -> str:
    """Names and memory of the GPUs that ``nvidia-smi`` lists, or ``no GPU``."""
    try:
        answer = subprocess.run(GPU_QUERY, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "no GPU"
    return gpus_from(answer.stdout) if answer.returncode == 0 else "no GPU"


def gpus_from(listing: str) -> str:
    """Reads what ``nvidia-smi`` lists, a line a GPU; equal ones are counted."""
    names: dict[str, int] = {}
    for line in filter(str.strip, listing.splitlines()):
        name, _, memory = (part.strip() for part in line.partition(","))
        label = f"{name} ({int(memory) / 1024:.0f} GB)" if memory.isdecimal() else name
        names[label] = names.get(label, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in names.items()) or "no GPU"
