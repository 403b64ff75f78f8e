"""Prometheus' own checks: of its configuration, of the rules, and of the rules on made-up series."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import monitoring

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no promtool on PATH; install it, on Debian and Ubuntu with: apt-get install prometheus",
)


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    said = promtool("check", "config", monitoring.PROMETHEUS / "prometheus.yml")
    assert said.count("SUCCESS") == 2 + len(monitoring.RULE_FILES)
    assert "WARNING" not in said


@pytest.mark.parametrize("file", monitoring.RULE_TESTS, ids=lambda file: file.stem)
def test_rules_on_made_up_series(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)
