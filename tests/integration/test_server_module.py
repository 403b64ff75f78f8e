"""``python -m server`` where something is missing: one line, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs `python -m server` in a Python where some modules cannot be imported or the platform is another one.
RUN = """
import platform, runpy, sys
for name in {blocked!r}:
    sys.modules[name] = None
platform.machine = lambda: {machine!r}
sys.argv = ["server", *{arguments!r}]
runpy.run_module("server", run_name="__main__", alter_sys=True)
"""


def run(*arguments: str, blocked: tuple[str, ...] = (), machine: str = "x86_64") -> subprocess.CompletedProcess[str]:
    code = RUN.format(blocked=blocked, machine=machine, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("package", ["psutil", "bert_triton_client"])
def test_a_missing_package_is_one_line_with_the_pip_command(package: str) -> None:
    done = run(blocked=(package,))
    assert done.returncode == 1
    assert done.stderr.startswith(f"server: error: the package {package}")
    assert "python -m pip install" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unsupported_platform_is_said_before_a_missing_package() -> None:
    done = run(blocked=("psutil",), machine="aarch64")
    assert done.returncode == 1
    assert "Linux aarch64; use NVIDIA's container" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_works_everywhere_the_packages_are() -> None:
    done = run("--help", machine="aarch64")
    assert done.returncode == 0
    for word in ("--http-port", "--on-backend-death", "BERT_TRITON_HTTP_PORT", "python -m server -- --log-verbose=1"):
        assert word in done.stdout
