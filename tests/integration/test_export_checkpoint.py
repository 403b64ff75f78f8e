"""Every way in which a checkpoint can be unfit is an error that says so, and what is fit is read right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.checkpoint import load
from export.errors import CheckpointError, LabelError, TaskError
from export.manifest import ModelArchitecture, sha256_file
from tests.integration import tiny_models
from tests.integration.tiny_models import LABELS, MAX_LENGTH


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models.shared("bert"), tmp_path / "checkpoint"))


def change_config(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config), encoding="utf-8")


def save_headless(checkpoint: Path) -> None:
    """Leaves the encoder's weights and removes those of the classification head."""
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", tiny_models.ARCHITECTURES)
def test_architectures(kind: str) -> None:
    loaded = load(str(tiny_models.shared(kind)))
    assert loaded.text.labels == LABELS
    assert loaded.text.max_length == MAX_LENGTH
    assert loaded.inputs == tiny_models.ARCHITECTURES[kind].inputs
    assert loaded.text.pad_token_id == (1 if kind == "roberta" else 0)
    assert loaded.architecture == ModelArchitecture(
        tiny_models.ARCHITECTURES[kind].model_type,
        tiny_models.LAYERS,
        tiny_models.HIDDEN_SIZE,
        8 if kind == "minilm" else tiny_models.HEADS,
    )
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "eager"


def test_origin(checkpoint: Path) -> None:
    card = "---\nlicense: apache-2.0\n---\n# A model\n"
    (checkpoint / "README.md").write_text(card, encoding="utf-8")
    origin = load(str(checkpoint)).origin
    assert origin.name == str(checkpoint)
    assert origin.revision is None
    assert origin.sha256 == sha256_file(checkpoint / "model.safetensors")
    assert origin.licence == "apache-2.0"


@pytest.mark.parametrize("card", ["no front matter", "---\nlicense: [\n---\n", "---\ntags: [bert]\n---\n"])
def test_cards_that_state_no_licence(checkpoint: Path, card: str) -> None:
    (checkpoint / "README.md").write_text(card, encoding="utf-8")
    assert load(str(checkpoint)).origin.licence is None


def test_roberta_serves_fewer_tokens_than_it_has_positions(tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(tiny_models.shared("roberta"), tmp_path / "checkpoint"))
    config = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    (checkpoint / "tokenizer_config.json").write_text(
        json.dumps(config | {"model_max_length": 10**30}), encoding="utf-8"
    )
    assert load(str(checkpoint)).text.max_length == MAX_LENGTH  # 130 positions, of which padding takes two


def test_max_length_can_be_lowered_and_not_raised(checkpoint: Path) -> None:
    assert load(str(checkpoint), max_length=64).text.max_length == 64
    for wrong in (2, MAX_LENGTH + 1):
        with pytest.raises(CheckpointError, match=f"--max-length {wrong}"):
            load(str(checkpoint), max_length=wrong)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load(name)


@pytest.mark.parametrize("name", ["nobody/nothing", "not a name"])
def test_no_such_model_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=f"no model {name}: there is no such folder, and the hub says"):
        load(name)


def test_revision_of_a_folder(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="leave it out"):
        load(str(checkpoint), revision="main")


def test_command_line_reports_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model_repository"
    assert main(["--model", str(tmp_path / "missing"), "--name", "tiny", "--output", str(output)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"export: no checkpoint folder {tmp_path / 'missing'}")
    assert "Traceback" not in "".join(lines)
    assert not output.exists()


@pytest.mark.parametrize("kind", ["BertModel", "BertForTokenClassification", "BertForMaskedLM"])
def test_wrong_task(checkpoint: Path, kind: str) -> None:
    change_config(checkpoint, architectures=[kind])
    with pytest.raises(TaskError, match=f"{kind}.*ForSequenceClassification"):
        load(str(checkpoint))


@pytest.mark.parametrize(
    "changes",
    [
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
        {"id2label": {"0": "score"}, "label2id": {"score": 0}},
    ],
)
def test_tasks_of_another_kind_of_answer(checkpoint: Path, changes: dict[str, Any]) -> None:
    change_config(checkpoint, **changes)
    with pytest.raises(TaskError, match="exactly one of at least two labels"):
        load(str(checkpoint))


def test_missing_head_is_not_replaced_by_random_numbers(checkpoint: Path) -> None:
    save_headless(checkpoint)
    with pytest.raises(TaskError, match=r"lacks the classification head \(classifier.bias, classifier.weight\)"):
        load(str(checkpoint))


@pytest.mark.parametrize("keep", [0, 7, 1000, -100])
def test_truncated_weights(checkpoint: Path, keep: int) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="missing, truncated or damaged"):
        load(str(checkpoint))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half a zip file"])
def test_damaged_pickled_weights(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="missing, truncated or damaged"):
        load(str(checkpoint))


def test_missing_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing, truncated or damaged"):
        load(str(checkpoint))


def test_weights_that_are_not_numbers(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier.bias holds values that are not finite"):
        load(str(checkpoint))


def test_weights_of_another_shape(checkpoint: Path) -> None:
    change_config(checkpoint, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(CheckpointError):
        load(str(checkpoint))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "no-such-type"}'])
def test_unusable_config(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError):
        load(str(checkpoint))


def test_architecture_that_is_not_supported(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "gpt2", "num_labels": 2}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="gpt2 model; supported are bert, "):
        load(str(checkpoint))


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path) -> None:
    mark = checkpoint / "was_run"
    (checkpoint / "code.py").write_text(f"open({str(mark)!r}, 'w')", encoding="utf-8")
    change_config(
        checkpoint,
        model_type="of-its-own",
        auto_map={"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"},
    )
    with pytest.raises(CheckpointError):
        load(str(checkpoint))
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_unusable_tokenizer(checkpoint: Path, damage: str) -> None:
    for path in [*checkpoint.glob("*token*"), checkpoint / "vocab.txt"]:
        if damage == "remove":
            path.unlink()
        elif path.name == "tokenizer.json":
            path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="tokenizer"):
        load(str(checkpoint))


def test_tokenizer_of_another_model(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="do not belong together"):
        load(str(checkpoint), tokenizer=str(tiny_models.shared("roberta")))


def test_tokenizer_from_another_folder(checkpoint: Path) -> None:
    for path in checkpoint.glob("*token*"):
        path.unlink()
    loaded = load(str(checkpoint), tokenizer=str(tiny_models.shared("bert")))
    assert loaded.text.tokenizer.is_fast


def test_labels_must_be_distinct(checkpoint: Path) -> None:
    change_config(checkpoint, id2label={"0": "same", "1": "same"}, label2id={"same": 1})
    with pytest.raises(LabelError, match="same, same"):
        load(str(checkpoint))


def test_generic_labels_are_noted(checkpoint: Path) -> None:
    change_config(checkpoint, id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert load(str(checkpoint)).text.generic_labels
    assert not load(str(tiny_models.shared("bert"))).text.generic_labels
