"""Markers come from the folder: tests/unit, tests/integration, tests/e2e.

No test depends on how fast the machine is, or on what started it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from bert_triton_client.labelled import read_texts

TESTS = Path(__file__).parent
REPOSITORY_ROOT = TESTS.parent
MODEL_REPOSITORY = REPOSITORY_ROOT / "model_repository"
DEMO = REPOSITORY_ROOT / "build/demo"

# Hypothesis times every example, and what takes 200 ms on a busy machine has failed: that is no property of the code.
# The same examples every time, so that what fails once fails again.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Several workers share the cores. The threads of OpenMP (torch) wait for each other by spinning, and those of two
# processes that compute at once do that most of the time; one thread each is faster. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A background job ignores Ctrl-C, and so would every program that a test starts and sends one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_texts() -> list[str]:
    """The held-out movie sentences of the demo."""
    if not (DEMO / "test.csv").exists():
        pytest.skip("the demo's sentences are not there; run `make demo`")
    return read_texts(DEMO / "test.csv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(folder)
