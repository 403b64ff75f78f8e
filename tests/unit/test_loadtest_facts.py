"""What a model repository says: names of architectures, sizes, and which tokenizer belongs to which tensor model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.manifest import CheckpointSource, Manifest, ModelArchitecture
from export.repository import ModelRepository
from loadtest.conclusions.facts import DEFAULT_REPOSITORY, Repository, TextSide, architecture_name
from loadtest.errors import UsageError
from tests import tiny_repository


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two exports of one model, by the real export."""
    repository = ModelRepository(tmp_path / "models")
    for _ in range(2):
        tiny_repository.publish(repository, "reviews")
    return repository.path


def with_architecture(repository: Path, model: str, version: str, architecture: ModelArchitecture | None) -> None:
    source = CheckpointSource("someone/bert")
    manifest = Manifest(model, int(version), "text-classification", "int8", source, architecture=architecture)
    manifest.write(repository / model / version)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        (("bert", 12, 768), "BERT-base"),
        (("bert", 24, 1024), "BERT-large"),
        (("bert", 2, 128), "BERT-tiny"),
        (("distilbert", 6, 768), "DistilBERT"),
        (("roberta", 12, 768), "RoBERTa-base"),
        (("bert", 6, 384), "bert 6 x 384"),
        (("electra", 12, 768), "electra 12 x 768"),
        (("distilbert", 12, 768), "distilbert 12 x 768"),
    ],
)
def test_architectures_have_the_names_that_people_use(stated: tuple[str, int, int], name: str) -> None:
    assert architecture_name(*stated) == name


def test_the_architecture_is_what_export_wrote(published: Path) -> None:
    with_architecture(published, "reviews_int8", "2", ModelArchitecture("bert", 12, 768, 12))
    assert Repository(published).architecture("reviews_int8", "2") == "BERT-base"
    assert Repository(published).architecture("reviews_int8", "1") == ""  # a manifest that does not say


@pytest.mark.parametrize("content", ["", "[]", "{", '{"architecture": {"layers": 12}}', '{"architecture": 3}'])
def test_a_manifest_that_says_nothing_leaves_it_open(published: Path, content: str) -> None:
    (published / "reviews_int8/2/manifest.json").write_text(content)
    assert Repository(published).architecture("reviews_int8", "2") == ""


def test_the_size_is_that_of_the_served_version(published: Path) -> None:
    (published / "reviews_int8/1/model.onnx").write_bytes(b"123")
    (published / "reviews_int8/2/model.onnx").write_bytes(b"12345")
    (published / "reviews_int8/10").mkdir()
    (published / "reviews_int8/10/model.onnx").write_bytes(b"1")
    repository = Repository(published)
    assert [repository.size_bytes("reviews_int8", version) for version in ("1", "2", "", "7")] == [3, 5, 1, None]
    assert repository.size_bytes("another", "1") is None
    assert repository.size_bytes("reviews", "1") is None  # a text model has no ONNX file


def test_no_repository_knows_nothing() -> None:
    nothing = Repository(None)
    assert nothing.size_bytes("reviews_int8", "1") is None
    assert nothing.architecture("reviews_int8", "1") == ""
    assert nothing.text_side("reviews_int8", "1") == TextSide()


@pytest.mark.parametrize("model", ["reviews", "reviews_fp32", "reviews_int8"])
def test_the_text_side_of_a_text_model_and_of_its_tensor_models(published: Path, model: str) -> None:
    tokenizer = published / "reviews/2/tokenizer.json"
    assert Repository(published).text_side(model, "2") == TextSide(tokenizer, ("negative", "positive"), 128, 0)


def test_a_config_that_names_the_tensor_model_beats_a_name_that_fits(published: Path) -> None:
    tiny_repository.publish(ModelRepository(published), "other")
    config = published / "other/config.pbtxt"
    config.write_text(config.read_text().replace("other_int8", "reviews_v2_int8"))
    side = Repository(published).text_side("reviews_v2_int8", "1")
    assert side.tokenizer == published / "other/1/tokenizer.json"


def test_the_longest_name_that_fits_wins(published: Path) -> None:
    tiny_repository.publish(ModelRepository(published), "reviews_long", labels=("bad", "good"))
    side = Repository(published).text_side("reviews_long_bf16", "1")
    assert side.labels == ("bad", "good")


def test_a_tensor_model_without_a_text_model(published: Path) -> None:
    assert Repository(published).text_side("bert_base", "1") == TextSide()


def test_labels_that_cannot_be_read_are_unknown(published: Path) -> None:
    (published / "reviews/2/labels.json").write_text(json.dumps({"0": "bad"}))
    assert Repository(published).text_side("reviews", "2").labels == ()


def test_the_usual_repository_is_taken_only_for_a_server_of_this_machine(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Repository.given(None, server_is_here=True).path is None  # it is not there
    published.rename(tmp_path / DEFAULT_REPOSITORY)
    assert Repository.given(None, server_is_here=True).path == DEFAULT_REPOSITORY
    assert Repository.given(None, server_is_here=False).path is None
    assert Repository.given(DEFAULT_REPOSITORY, server_is_here=False).path == DEFAULT_REPOSITORY


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--repository .* no such folder"):
        Repository.given(tmp_path / "none", server_is_here=True)
