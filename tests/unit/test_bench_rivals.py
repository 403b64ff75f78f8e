"""The rival servers of the benchmark: what is sent to them, read from them and written for them. None is started."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench import rivals
from bench.rivals import infinity, litserve, mlserver, torchserve
from bench.rivals.int8 import target_of
from bench.rivals.server import PROGRAMS, Protocol

REQUIREMENTS = sorted((PROGRAMS.parent / "requirements").glob("*.txt"))


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        (
            infinity.PROTOCOL,
            {"data": [[{"label": "positive", "score": 0.2}, {"label": "negative", "score": 0.8}]]},
        ),
        (litserve.PROTOCOL, {"label": "negative"}),
        (
            mlserver.PROTOCOL,
            {"outputs": [{"name": "output", "data": ['{"label": "negative", "score": 0.8}'], "shape": [1, 1]}]},
        ),
        (mlserver.BATCHED, {"outputs": [{"data": ['{"label": "negative", "score": 0.8}'], "shape": [1, 1]}]}),
        (torchserve.PROTOCOL, {"label": "negative"}),
    ],
    ids=["infinity", "litserve", "mlserver", "mlserver-batched", "torchserve"],
)
def test_the_label_is_read_from_an_answer(protocol: Protocol, answer: object) -> None:
    assert protocol.label(answer) == "negative"
    assert "a text" in json.dumps(protocol.request("a text"))


@pytest.mark.parametrize(
    ("flags", "target"),
    [
        ({"avx2", "avx512f", "avx512_vnni"}, "avx512_vnni"),
        ({"avx2", "avx_vnni"}, "avx512_vnni"),
        ({"avx2", "avx512f"}, "avx512"),
        ({"avx2"}, "avx2"),
    ],
)
def test_int8_is_made_for_the_processor(flags: set[str], target: str) -> None:
    assert target_of(flags) == target


def test_mlserver_batches_only_where_told() -> None:
    plain = mlserver.model_settings(Path("/checkpoint"), "fp32", None, 1)
    assert "max_batch_size" not in plain
    assert plain["parameters"]["extra"] == {"task": "text-classification", "pretrained_model": "/checkpoint"}
    tuned = mlserver.model_settings(Path("/checkpoint"), "bf16", 2, 8)
    assert tuned["max_batch_size"] == 8
    assert tuned["parameters"]["extra"]["intra_op_threads"] == 2


def test_a_torchserve_archive_has_its_handler_and_what_that_imports(tmp_path: Path) -> None:
    torchserve.write_archive(tmp_path / "store", torchserve.model_config(2, 8))
    manifest = json.loads((tmp_path / "store/MAR-INF/MANIFEST.json").read_text())
    assert (tmp_path / "store" / manifest["model"]["handler"]).exists()
    assert (tmp_path / "store/classifier.py").exists()
    assert "batchSize: 8\n" in (tmp_path / "store" / manifest["model"]["configFile"]).read_text()


def test_every_rival_takes_part_with_its_defaults_and_tuned() -> None:
    names = [row.name for row in rivals.CONTESTANTS]
    assert len(set(names)) == len(names)
    for module in (infinity, litserve, mlserver, torchserve):
        rows = [row for row in rivals.CONTESTANTS if row.name.startswith(module.NAME)]
        assert [row.settings.startswith("defaults") for row in rows] == [True] + [False] * (len(rows) - 1)
        assert len(rows) > 1


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.stem)
def test_requirements_are_pinned_and_torch_is_the_cpu_build(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w\-\[\],]+==[\w.]+", line) for line in lines)
    assert "torch==2.13.0" in lines
