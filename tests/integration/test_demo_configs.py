"""The demo's committed configs are what export generates today."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess

import pytest

from bert_triton_client.contract import ENGINES, PREFERRED_PRECISIONS, TENSOR_INPUTS, tensor_model_name
from export import __main__ as command
from export import serving
from export.triton_config import parse, tensor_configs, text_configs
from tests.conftest import MODEL_REPOSITORY, REPOSITORY_ROOT

TASK = "text-classification"
LABELS = ["negative", "positive"]
BERT_POSITIONS = 512


def demo_flags() -> argparse.Namespace:
    """The flags with which `make repository` exports the demo."""
    makefile = (REPOSITORY_ROOT / "Makefile").read_text().replace("\\\n", " ")
    variables = dict(re.findall(r"^(\w+) := (.*)$", makefile, re.MULTILINE))
    flags = re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], variables["DEMO_EXPORT"])
    return command.parser().parse_args(shlex.split(flags))


def generated() -> dict[str, str]:
    flags = demo_flags()
    options = serving.from_arguments(flags)
    served = {
        hardware: next(precision for precision in preferred if precision in flags.precision)
        for hardware, preferred in PREFERRED_PRECISIONS.items()
    }
    # What is measured otherwise must be given: the committed configs are those of every machine.
    assert flags.serve_precision is not None
    assert flags.engine in ENGINES["int8"]
    served[options.hardware] = flags.serve_precision
    text = {
        "task": TASK,
        "served": served,
        "inputs": TENSOR_INPUTS,
        "labels": LABELS,
        "max_length": BERT_POSITIONS,
        "pad_token_id": 0,
    }
    packed = [precision for precision in flags.precision if precision != "fp16"]
    models = {flags.name: text_configs(flags.name, **text, options=options, packed=packed)}
    for precision in flags.precision:
        able = ENGINES[precision]
        models[tensor_model_name(flags.name, precision)] = tensor_configs(
            flags.name,
            precision,
            task=TASK,
            inputs=TENSOR_INPUTS,
            labels=LABELS,
            options=options,
            engine=flags.engine if flags.engine in able else able[0],
        )
    return {f"{model}/{file}": content for model, files in models.items() for file, content in files.items()}


def test_the_committed_configs_are_what_export_generates() -> None:
    committed = {str(path.relative_to(MODEL_REPOSITORY)) for path in MODEL_REPOSITORY.rglob("*.pbtxt")}
    expected = generated()
    assert committed >= set(expected)
    for file, content in expected.items():
        assert parse((MODEL_REPOSITORY / file).read_text()) == parse(content), file


def test_exporting_the_demo_leaves_the_checkout_clean() -> None:
    if not (REPOSITORY_ROOT / ".git").exists():
        pytest.skip("not a git checkout; clone the repository to run this")
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "model_repository"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""


def test_the_checkpoint_is_the_one_the_configs_are_for() -> None:
    config = REPOSITORY_ROOT / "build/demo/checkpoint/config.json"
    if not config.exists():
        pytest.skip("the demo model is not built; run `make demo`")
    loaded = json.loads(config.read_text())
    assert [loaded["id2label"][str(number)] for number in range(2)] == LABELS
    assert loaded["max_position_embeddings"] == BERT_POSITIONS
