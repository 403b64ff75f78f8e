"""Core counts from real folder trees that look like /proc and /sys/fs/cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.cores import available_cores


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def v1(quota: str, period: str = "100000", folder: str = "cpu") -> dict[str, str]:
    mount = f"sys/fs/cgroup/{folder}"
    return {f"{mount}/cpu.cfs_quota_us": quota, f"{mount}/cpu.cfs_period_us": period}


def test_this_process() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def test_affinity_of_this_process_counts(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    assert available_cores(tmp_path, affinity=6) == 6


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
    ],
)
def test_v2_quota_is_rounded_down_and_at_least_1(tmp_path: Path, cpu_max: str, cores: int) -> None:
    tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": cpu_max})
    assert available_cores(tmp_path, affinity=8) == cores


def test_v2_the_tightest_of_nested_cgroups_binds(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/docker.scope/job",
            "sys/fs/cgroup/system.slice/cpu.max": "800000 100000",
            "sys/fs/cgroup/system.slice/docker.scope/cpu.max": "300000 100000",
            "sys/fs/cgroup/system.slice/docker.scope/job/cpu.max": "max 100000",
            "sys/fs/cgroup/other.slice/cpu.max": "100000 100000",
        },
    )
    assert available_cores(tmp_path, affinity=16) == 3


def test_v1_quota(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/cgroup": "3:cpuset:/\n1:cpu:/", **v1("400000")})
    assert available_cores(tmp_path, affinity=16) == 4


def test_v1_without_limit(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/cgroup": "1:cpu:/", **v1("-1")})
    assert available_cores(tmp_path, affinity=16) == 16


def test_v1_joint_controllers_nested(tmp_path: Path) -> None:
    job = "cpu,cpuacct/kubepods/pod1"
    files = {"proc/self/cgroup": "4:cpu,cpuacct:/kubepods/pod1", **v1("150000", "50000", job)}
    assert available_cores(tree(tmp_path, files), affinity=16) == 3


def test_in_a_container_the_hosts_path_is_absent_and_the_mount_itself_counts(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/cgroup": "1:cpu:/docker/0123abc", **v1("200000")})
    assert available_cores(tmp_path, affinity=16) == 2


def test_a_path_above_the_namespace_counts_as_the_mount(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/cgroup": "0::/../..", "sys/fs/cgroup/cpu.max": "200000 100000"})
    assert available_cores(tmp_path, affinity=16) == 2


def test_both_versions_side_by_side(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "1:cpu:/\n0::/job",
            **v1("600000"),
            "sys/fs/cgroup/unified/job/cpu.max": "500000 100000",
        },
    )
    assert available_cores(tmp_path, affinity=16) == 5


@pytest.mark.parametrize("period", ["0", "", "soon"])
def test_a_damaged_quota_is_no_quota(tmp_path: Path, period: str) -> None:
    tree(tmp_path, {"proc/self/cgroup": "1:cpu:/", **v1("200000", period)})
    assert available_cores(tmp_path, affinity=4) == 4
