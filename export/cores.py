"""How many cores this process may keep busy: its affinity, cut down to the CPU quota of its cgroups.

A container limited to two CPUs on a 64-core host still counts 64 cores in most places, ONNX Runtime's
default included; a thread pool of that size spends its quota in the first milliseconds of every
scheduling period and then stands still. So thread counts are derived from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_MOUNT = "sys/fs/cgroup"


def available_cores(root: Path = Path("/"), affinity: int | None = None) -> int:
    """The cores that this process may keep busy, rounded down, at least 1.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
        affinity: the number of cores the scheduler may use; by default the process's own.
    """
    cores = float(affinity if affinity is not None else _affinity())
    return max(1, int(min([cores, *_quotas(root)])))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Every CPU quota that binds this process, in cores: its own cgroup's and those of all above it."""
    for folder, path in _hierarchies(root):
        inside = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        # In a container the path may be the host's, of which only the mount itself exists here.
        for depth in range(len(inside), -1, -1):
            quota = _quota(folder.joinpath(*inside[:depth]))
            if quota is not None:
                yield quota


def _hierarchies(root: Path) -> Iterator[tuple[Path, str]]:
    """Where cgroup hierarchies that may limit CPU are mounted, with this process's path in each."""
    mount = root / CGROUP_MOUNT
    for line in _read(root / "proc/self/cgroup").splitlines():
        # hierarchy-ID:controllers:path; the unified hierarchy (v2) is "0::/path".
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield mount, path
            yield mount / "unified", path  # both versions mounted side by side
        elif "cpu" in controllers.split(","):
            yield mount / controllers, path
            yield mount / "cpu", path


def _quota(folder: Path) -> float | None:
    """The CPU quota of one cgroup folder in cores, of either version; None when it has none."""
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:  # "max" and -1 mean no limit
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
