"""The processor of this machine: its name, and those of its instructions that decide how fast a BERT is, and how exact.

INT8 and BF16 products come out differently on CPUs with other instructions: what a gate found holds for the kind of
CPU it was found on, so the manifest names it.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# As Linux spells them, on x86-64 and on ARM.
FEATURES = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


def name(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name, as the kernel states it."""
    names = _values(cpuinfo, "model name")
    return names[0] if names else platform.processor() or platform.machine()


def features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Which of `FEATURES` the processor has; none where the kernel does not say."""
    stated = [*_values(cpuinfo, "flags"), *_values(cpuinfo, "Features")]
    flags = set(stated[0].split()) if stated else set()
    return tuple(feature for feature in FEATURES if feature in flags)


def _values(cpuinfo: Path, key: str) -> list[str]:
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for label, _, value in pairs if label.strip() == key]
