"""Markers come from the folder: tests/unit, tests/integration, tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_triton_client.labelled import read_texts

TESTS = Path(__file__).parent
REPOSITORY_ROOT = TESTS.parent
MODEL_REPOSITORY = REPOSITORY_ROOT / "model_repository"
DEMO = REPOSITORY_ROOT / "build/demo"


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
