"""The served model answers what transformers.pipeline answers on the same checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bert_triton_client import Client
from server import TritonServer
from tests.conftest import DEMO, MODEL_REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and transformers' own deprecations

TEXTS = 1_000


@pytest.fixture(scope="module")
def pipeline_answers(demo_texts: list[str]) -> list[dict[str, float]]:
    """Per text the probability of every label."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(DEMO / "checkpoint"), top_k=None)
    answers = classify(demo_texts[:TEXTS], batch_size=32)
    return [{answer["label"]: answer["score"] for answer in text_answers} for text_answers in answers]


def repository_serving(precision: str, folder: Path) -> Path:
    """The demo's model repository with the text model calling ``precision``."""
    for model in MODEL_REPOSITORY.glob("sentiment_*"):
        (folder / model.name).symlink_to(model)
    shutil.copytree(MODEL_REPOSITORY / "sentiment", folder / "sentiment")
    config = folder / "sentiment/config.pbtxt"
    config.write_text(config.read_text().replace("sentiment_int8", f"sentiment_{precision}"))
    return folder


@pytest.mark.parametrize(("precision", "agreement", "score_tolerance"), [("fp32", 1.0, 1e-4), ("int8", 0.98, None)])
def test_served_answers_equal_the_pipeline(
    demo_repository: Path,
    demo_texts: list[str],
    pipeline_answers: list[dict[str, float]],
    server_factory: Callable[..., TritonServer],
    tmp_path: Path,
    precision: str,
    agreement: float,
    score_tolerance: float | None,
) -> None:
    server = server_factory(repository_serving(precision, tmp_path))
    with Client(server.grpc_url, model="sentiment") as client:
        served = client.classify(demo_texts[:TEXTS])
    expected = [max(answer, key=lambda label: answer[label]) for answer in pipeline_answers]
    equal = np.mean([got.label == label for got, label in zip(served, expected, strict=True)])
    print(f"{precision}: {equal:.2%} of {TEXTS} labels equal transformers.pipeline's")
    assert equal >= agreement
    if score_tolerance is not None:
        scores = [answer[got.label] for got, answer in zip(served, pipeline_answers, strict=True)]
        assert max(abs(got.score - score) for got, score in zip(served, scores, strict=True)) <= score_tolerance
