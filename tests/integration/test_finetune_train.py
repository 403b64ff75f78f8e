"""`python -m finetune` on a tiny BERT made on the spot: it learns, repeats, stops, merges, and says what is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune.__main__ import main
from tests.integration import tiny_models

# The Trainer wonders about checkpoints that are less than a second apart, as they are here.
pytestmark = pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning")

QUICK = ["--batch-size", "16", "--learning-rate", "3e-3", "--max-length", "64", "--precision", "fp32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a head, with random weights, and a model card that states a licence."""
    return encoder(tmp_path_factory.mktemp("tiny"), steps=0)


def encoder(folder: Path, *, steps: int) -> Path:
    from transformers import AutoModel, AutoTokenizer

    whole = tiny_models.build("bert", folder / "whole", steps=steps)
    folder = folder / "encoder"
    AutoModel.from_pretrained(whole).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    tokenizer.backend_tokenizer.enable_truncation(16)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    pairs = dict(tiny_models.labelled(700, seed=5))
    rows = list(pairs.items())
    parts = {"train": rows[:480], "validation": rows[480:560], "test": rows[560:]}
    return {name: write(folder / f"{name}.csv", part) for name, part in parts.items()}


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


def finetune(base: Path, data: dict[str, Path], output: Path, *flags: str) -> dict[str, Any]:
    """Runs the command; returns metrics.json."""
    parts = [
        "--data",
        str(data["train"]),
        "--validation-data",
        str(data["validation"]),
        "--test-data",
        str(data["test"]),
    ]
    assert main(["--base", str(base), *parts, "--output", str(output), *QUICK, *flags]) == 0
    metrics: dict[str, Any] = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return metrics


@pytest.fixture(scope="module")
def full(base: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("full") / "out"
    return output, finetune(base, data, output, "--epochs", "5", "--patience", "0")


def tensors(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


def logits(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def texts_of(path: Path) -> list[str]:
    return [line.rsplit(",", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]


# --- It works -------------------------------------------------------------------------------------


def test_it_learns(full: tuple[Path, dict[str, Any]]) -> None:
    _, metrics = full
    assert metrics["epochs"][0]["train_loss"] > 2 * metrics["epochs"][-1]["train_loss"]
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["test"]["texts"] == 140
    assert metrics["labels"] == ["negative", "positive"]
    best = max(epoch["macro_f1"] for epoch in metrics["epochs"])
    assert metrics["validation"]["macro_f1"] == pytest.approx(best)
    assert metrics["epochs"][metrics["best_epoch"] - 1]["macro_f1"] == best


def test_the_checkpoint_is_a_plain_one(full: tuple[Path, dict[str, Any]], data: dict[str, Path]) -> None:
    from transformers import pipeline

    output, metrics = full
    answers = pipeline("text-classification", model=str(output), device="cpu")(texts_of(data["test"]), truncation=True)
    expected = [line.rsplit(",", 1)[1] for line in data["test"].read_text(encoding="utf-8").splitlines()[1:]]
    right = sum(answer["label"] == label for answer, label in zip(answers, expected, strict=True))
    assert right / len(expected) == pytest.approx(metrics["test"]["accuracy"])
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == []
    tokenizer = json.loads((output / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    assert "license: mit\n" in (output / "README.md").read_text(encoding="utf-8")
    assert str(output.parent) not in (output / "config.json").read_text(encoding="utf-8")


def test_a_seed_repeats(base: Path, data: dict[str, Path], tmp_path: Path) -> None:
    import torch

    flags = ["--epochs", "1", "--seed"]
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        finetune(base, data, tmp_path / name, *flags, seed)
    first, second, third = (tensors(tmp_path / name) for name in "abc")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_early_stopping(base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = finetune(
        base,
        data,
        tmp_path / "out",
        "--epochs",
        "9",
        "--patience",
        "2",
        "--learning-rate",
        "1e-8",
        "--metric",
        "accuracy",
    )
    assert len(metrics["epochs"]) == 3
    assert metrics["best_epoch"] == 1
    assert "best epoch 1 of 3" in capsys.readouterr().out


def test_lora(data: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = encoder(tmp_path, steps=30)  # LoRA adapts what an encoder knows; random weights know nothing
    output = tmp_path / "out"
    metrics = finetune(base, data, output, "--epochs", "3", "--lora-rank", "8")
    assert metrics["test"]["accuracy"] > 0.9
    config = json.loads((output / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "encoder"  # and no path of this machine
    assert "classifier" in config["modules_to_save"]
    names = set(load_file(output / "adapter" / "adapter_model.safetensors"))
    assert len(names) == 2 * (2 * 6 + 1) + 2  # A and B of all linear layers of two blocks and the pooler, and the head

    texts = texts_of(data["test"])
    tokenizer = AutoTokenizer.from_pretrained(output)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    adapted = PeftModel.from_pretrained(plain, str(output / "adapter"))
    merged = AutoModelForSequenceClassification.from_pretrained(output)
    difference = (logits(adapted, tokenizer, texts) - logits(merged, tokenizer, texts)).abs().max()
    assert difference <= 1e-5
    assert merged.config.id2label == {0: "negative", 1: "positive"}


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_architectures(kind: str, data: dict[str, Path], tmp_path: Path) -> None:
    """LoRA on a base of another architecture, which has been a classifier already."""
    base = tiny_models.build(kind, tmp_path / "base", labels=("a", "b", "c"), steps=0)
    metrics = finetune(base, data, tmp_path / "out", "--epochs", "1", "--lora-rank", "4")
    assert metrics["labels"] == ["negative", "positive"]


def test_cut_texts_are_counted(
    base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = finetune(base, data, tmp_path / "out", "--epochs", "1", "--max-length", "20")
    long = sum(len(text.split()) + 2 > 20 for text in texts_of(data["train"]))  # every word is one token
    assert long > 50
    assert metrics["training_texts_cut"] == long
    assert f"{long} of 480 training texts are longer than 20 tokens: cut" in capsys.readouterr().err


def test_balanced_class_weights_raise_the_rare_label(base: Path, data: dict[str, Path], tmp_path: Path) -> None:
    """With nothing learnt but the frequencies, the head's bias follows them; with balanced weights it does not."""
    rows = tiny_models.labelled(600, seed=9)
    rare = [row for row in rows if row[1] == "negative"][:240] + [row for row in rows if row[1] == "positive"][:24]
    parts = data | {"train": write(tmp_path / "rare.csv", rare)}
    recall = {}
    for weights in ("none", "balanced"):
        output = tmp_path / weights
        finetune(base, parts, output, "--epochs", "1", "--learning-rate", "1e-3", "--class-weights", weights)
        recall[weights] = _share_of_positive(output, texts_of(data["test"]))
    assert recall["none"] < 0.1
    assert recall["balanced"] > recall["none"] + 0.1


@pytest.mark.parametrize("available", [True, False])
def test_bf16_where_the_hardware_has_it(
    available: bool, base: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.train._has_bf16", lambda: available)
    metrics = finetune(base, data, tmp_path / "out", "--epochs", "1", "--precision", "auto")
    assert metrics["recipe"]["precision"] == ("bf16" if available else "fp32")
    assert {str(tensor.dtype) for tensor in tensors(tmp_path / "out").values()} == {"torch.float32"}


def _share_of_positive(checkpoint: Path, texts: list[str]) -> float:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    answers = logits(model, AutoTokenizer.from_pretrained(checkpoint), texts).argmax(-1)
    return float((answers == 1).float().mean())


# --- It says what is wrong ------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command, which must fail; returns its one line on stderr."""
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in captured.err
    return last


def test_bad_data(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(rows: str, *flags: str) -> str:
        (tmp_path / "train.csv").write_text(rows, encoding="utf-8")
        arguments = [
            "--base",
            str(base),
            "--data",
            str(tmp_path / "train.csv"),
            "--output",
            str(tmp_path / "out"),
            *flags,
        ]
        return failed(capsys, *arguments)

    assert "no column 'text': expected 'text', 'label', found 'review', 'stars'" in run("review,stars\ngood,5\n")
    assert "one label only ('x')" in run("text,label\na,x\nb,x\n")
    good = "text,label\n" + "".join(f"text {index},{'xy'[index % 2]}\n" for index in range(20))
    other = tmp_path / "other.csv"
    other.write_text("text,label\nc,z\n", encoding="utf-8")
    message = run(good, "--validation-data", str(other))
    assert "other.csv has labels that the training texts lack: 'z'; expected 'x', 'y'" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "train.csv"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("./none", "no checkpoint in ./none"),
        ("no-such/base", "no folder no-such/base, and none on the hub either"),
    ],
)
def test_no_such_base(
    name: str, expected: str, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--base", name, "--data", str(data["train"]), "--output", str(tmp_path / "out")]
    assert expected in failed(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_broken_base(base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    arguments = ["--base", str(broken), "--data", str(data["train"]), "--output", str(tmp_path / "out")]
    weights = broken / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    assert f"cannot load {broken}" in failed(capsys, *arguments)

    from safetensors.torch import load_file, save_file

    kept = {name: value for name, value in load_file(base / "model.safetensors").items() if "layer.1." not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    assert "lacks 16 weights of its bert encoder" in failed(capsys, *arguments)


def test_texts_longer_than_the_base_takes(
    base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--base", str(base), "--data", str(data["train"]), "--output", str(tmp_path / "out")]
    message = failed(capsys, *arguments, "--max-length", str(tiny_models.MAX_LENGTH + 1))
    assert f"the base takes {tiny_models.MAX_LENGTH} tokens at most" in message


def test_bf16_where_the_hardware_has_none(
    base: Path,
    data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("finetune.train._has_bf16", lambda: False)
    arguments = ["--base", str(base), "--data", str(data["train"]), "--output", str(tmp_path / "out")]
    message = failed(capsys, *arguments, "--precision", "bf16")
    assert "precision is bf16, but neither this CPU" in message
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written(
    base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    arguments = ["--base", str(base), "--data", str(data["train"]), "--output"]
    assert "cannot write" in failed(capsys, *arguments, str(tmp_path / "file" / "out"))
    assert "exists already" in failed(capsys, *arguments, str(tmp_path / "there"))


def test_full_disk(
    base: Path,
    data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import PreTrainedTokenizerFast

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "tokenizer.json")

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", full)
    arguments = ["--base", str(base), "--data", str(data["train"]), "--output", str(tmp_path / "out"), "--epochs", "1"]
    message = failed(capsys, *arguments)
    assert f"cannot write {tmp_path / 'out'}: " in message
    assert "No space left on device" in message
    assert list(tmp_path.iterdir()) == []


def test_terminated_run_leaves_nothing(base: Path, data: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "finetune", "--base", str(base), "--data", str(data["train"])]
    command += ["--output", str(tmp_path / "out"), "--epochs", "1000", "--patience", "0", *QUICK]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as run:
        try:
            assert run.stderr is not None
            assert any(line.startswith("epoch ") for line in run.stderr), "it ended before an epoch did"
            run.send_signal(signal.SIGTERM)
            assert run.wait(timeout=200) == 128 + signal.SIGTERM
        finally:
            run.kill()
    assert list(tmp_path.iterdir()) == []
