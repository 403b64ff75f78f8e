"""The model repository on disk: versions, labels, the lock, the commit, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError, LabelError, RepositoryBusyError, RepositoryError, UsageError
from export.manifest import verify
from export.repository import ModelRepository
from export.serving import ServingOptions
from export.triton_config import parse
from tests.tiny_repository import beside, contents, publish, random_model, stage, stage_tensor_model, stage_text_model

MODELS = ["sentiment", "sentiment_fp32", "sentiment_int8"]


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "model_repository")


# --- Reading ----------------------------------------------------------------------------------------------


def test_an_absent_repository_is_empty(repository: ModelRepository) -> None:
    assert repository.models() == []
    assert repository.versions("sentiment") == []
    assert repository.next_version("sentiment") == 1
    assert repository.labels("sentiment") is None
    assert not repository.path.exists()


def test_versions_are_the_folders_that_triton_counts(repository: ModelRepository) -> None:
    for name in ("1", "10", "9", "02", "0", "-3", "three", "configs", ".4", "٣"):
        (repository.path / "sentiment" / name).mkdir(parents=True)
    (repository.path / "sentiment" / "11").touch()
    assert repository.versions("sentiment") == [1, 9, 10]


def test_next_version_is_above_those_of_the_text_model_and_all_its_tensor_models(repository: ModelRepository) -> None:
    for folder in ("sentiment/2", "sentiment_int8/4", "sentiment_fp16/3", "sentiment_other/9", "topic/8"):
        (repository.path / folder).mkdir(parents=True)
    assert repository.next_version("sentiment") == 5
    assert repository.next_version("topic") == 9
    assert repository.next_version("new") == 1


def test_models_without_versions_are_named(repository: ModelRepository) -> None:
    publish(repository)
    (repository.path / "sentiment_fp16").mkdir()
    assert repository.without_versions() == ["sentiment_fp16"]


def test_a_repository_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    repository = ModelRepository(tmp_path / "file")
    with pytest.raises(RepositoryError, match=r"/file.* cannot be read as a folder .*--output"):
        repository.next_version("sentiment")
    with pytest.raises(RepositoryError, match=r"/file is in the way: .*--output"), repository.staging():
        pass
    assert (tmp_path / "file").read_text() == "precious"


# --- Publishing -------------------------------------------------------------------------------------------


def test_a_first_export(repository: ModelRepository) -> None:
    assert publish(repository) == 1
    assert repository.models() == MODELS
    files = {name for name, content in contents(repository.path).items() if content is not None}
    configs = {
        f"{model}/{path}" for model in MODELS for path in ("config.pbtxt", "configs/cpu.pbtxt", "configs/gpu.pbtxt")
    }
    tensors = {f"{model}/1/{file}" for model in MODELS[1:] for file in ("model.onnx", "manifest.json")}
    texts = {f"sentiment/1/{file}" for file in ("labels.json", "tokenizer.json", "manifest.json")}
    assert files == configs | tensors | texts
    for model in MODELS:
        assert verify(repository.path / model / "1").model == model
    assert repository.labels("sentiment") == ["negative", "positive"]
    assert beside(repository) == ["model_repository"]


def test_a_second_export_adds_a_version_and_leaves_the_first_alone(repository: ModelRepository) -> None:
    publish(repository)
    first = contents(repository.path)
    assert publish(repository, fill=lambda folder: random_model(folder, 99)) == 2
    second = contents(repository.path)
    assert {name: second[name] for name in first} == first
    assert {name.split("/")[1] for name in second.keys() - first.keys()} == {"2"}


def test_a_config_that_stays_the_same_is_not_touched(repository: ModelRepository) -> None:
    """A Triton that polls reloads every version of a model whose config has a new time."""
    publish(repository)
    config = repository.path / "sentiment" / "config.pbtxt"
    before = config.stat()
    publish(repository)
    assert (config.stat().st_ino, config.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_config_that_changes_is_replaced_whole(repository: ModelRepository) -> None:
    publish(repository)
    config = repository.path / "sentiment" / "config.pbtxt"
    with config.open() as reader:
        publish(repository, options=ServingOptions(cache_size=7))
        assert "10000" in reader.read()  # whoever has it open reads the old one to its end
    assert parse(config.read_text()).parameters["cache_size"].string_value == "7"


def test_configs_that_others_wrote_stay(repository: ModelRepository) -> None:
    publish(repository)
    tuned = repository.path / "sentiment" / "configs" / "my-machine.pbtxt"
    tuned.write_text("tuned")
    publish(repository, options=ServingOptions(cache_size=7))
    assert tuned.read_text() == "tuned"


@pytest.mark.parametrize("kept", ["config.pbtxt", "configs"])
def test_a_fresh_clone_has_configs_and_no_versions(repository: ModelRepository, kept: str) -> None:
    publish(repository, options=ServingOptions(cache_size=7))
    for model in MODELS:
        for path in (repository.path / model).iterdir():
            if path.name != kept and path.is_dir():
                shutil.rmtree(path)
            elif path.name != kept:
                path.unlink()
    assert publish(repository, labels=("a", "b", "c")) == 1
    for model in MODELS:
        assert sorted(path.name for path in (repository.path / model).iterdir()) == ["1", "config.pbtxt", "configs"]
    config = parse((repository.path / "sentiment" / "config.pbtxt").read_text())
    assert (config.parameters["cache_size"].string_value, list(config.output[2].dims)) == ("10000", [3])


def test_several_models_share_a_repository(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    before = contents(repository.path)
    assert publish(repository, "topic", precisions=("int8",), labels=("a", "b", "c")) == 1
    after = contents(repository.path)
    assert {name: after[name] for name in before} == before
    assert repository.labels("topic") == ["a", "b", "c"]


def test_a_precision_that_comes_later_gets_the_common_version(repository: ModelRepository) -> None:
    publish(repository, precisions=("fp32",))
    publish(repository, precisions=("fp32", "fp16"))
    assert repository.versions("sentiment_fp16") == [2]
    assert repository.versions("sentiment_fp32") == repository.versions("sentiment") == [1, 2]


def test_without_a_commit_nothing_is_published(repository: ModelRepository) -> None:
    publish(repository)
    before = contents(repository.path)
    with repository.staging() as staging:
        stage(staging)
    assert contents(repository.path) == before
    assert beside(repository) == ["model_repository"]


@pytest.mark.parametrize("error", [KeyError("a bug"), ExportError("a gate"), KeyboardInterrupt(), OSError(5, "I/O")])
def test_an_error_in_the_block_goes_on_and_leaves_nothing(repository: ModelRepository, error: BaseException) -> None:
    publish(repository)
    before = contents(repository.path)
    with pytest.raises(type(error)) as caught, repository.staging() as staging:
        stage(staging)
        raise error
    assert caught.value is error
    assert contents(repository.path) == before
    assert beside(repository) == ["model_repository"]


def test_what_a_killed_export_left_is_removed(repository: ModelRepository) -> None:
    publish(repository)
    for leftover in (".model_repository.export", "model_repository/.export", "model_repository/sentiment/.export"):
        (repository.path.parent / leftover / "sentiment" / "9").mkdir(parents=True)
    publish(repository)
    assert beside(repository) == ["model_repository"]
    assert repository.versions("sentiment") == [1, 2]


# --- The lock ---------------------------------------------------------------------------------------------


def test_a_second_export_is_told_who_holds_the_repository(repository: ModelRepository) -> None:
    with repository.staging() as first:
        stage(first)
        other = ModelRepository(repository.path)
        with (
            pytest.raises(
                RepositoryBusyError, match=rf"model_repository is in use .*process {os.getpid()} on .* since"
            ),
            other.staging(),
        ):
            pass
        first.commit()  # the second has not touched what the first had staged
    assert repository.versions("sentiment") == [1]


def test_the_lock_ends_with_the_block(repository: ModelRepository) -> None:
    with pytest.raises(ExportError), repository.staging():
        raise ExportError
    publish(repository)


# --- What is refused --------------------------------------------------------------------------------------


def publishing(repository: ModelRepository, step: Callable[[Any], None], **options: Any) -> None:
    with repository.staging(**options) as staging:
        step(staging)
        staging.commit()


def refused(repository: ModelRepository, kind: type[Exception], match: str, step: Callable[[Any], None]) -> None:
    before = contents(repository.path)
    with pytest.raises(kind, match=match):
        publishing(repository, step)
    assert contents(repository.path) == before


@pytest.mark.parametrize("labels", [("positive", "negative"), ("negative", "neutral", "positive"), ("a", "b")])
def test_other_labels_are_refused(repository: ModelRepository, labels: tuple[str, ...]) -> None:
    publish(repository)
    message = r"labels of sentiment would change from negative, positive \(version 1\) to .*--allow labels"
    with pytest.raises(LabelError, match=message):
        repository.check_labels("sentiment", labels)
    refused(repository, LabelError, message, lambda staging: stage(staging, labels=labels))


def test_the_same_labels_are_not_refused(repository: ModelRepository) -> None:
    publish(repository)
    repository.check_labels("sentiment", ["negative", "positive"])
    repository.check_labels("another", ["a"])


def test_other_labels_are_published_when_allowed(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository, labels=("a", "b"), allow_labels=True)
    assert repository.labels("sentiment") == ["a", "b"]
    config = parse((repository.path / "sentiment_int8" / "config.pbtxt").read_text())
    assert config.version_policy.latest.num_versions == 2


def test_another_signature_is_refused(repository: ModelRepository) -> None:
    publish(repository)
    match = r"sentiment_int8 would change from .*input_ids.* \(version 1\) to .*token_type_ids.*--allow labels"
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    refused(
        repository,
        LabelError,
        match,
        lambda staging: stage_tensor_model(staging, "sentiment", "int8", 2, inputs=inputs),
    )


def test_another_signature_serves_the_new_version_only(repository: ModelRepository) -> None:
    """The config of a model describes all its versions; one that no longer fits would fail to load."""
    publish(repository)
    publish(repository, labels=("a", "b", "c"), allow_labels=True)
    for file in ("config.pbtxt", "configs/cpu.pbtxt", "configs/gpu.pbtxt"):
        config = parse((repository.path / "sentiment_int8" / file).read_text())
        assert (list(config.output[0].dims), config.version_policy.latest.num_versions) == ([3], 1)
    publish(repository, labels=("a", "b", "c"))
    config = parse((repository.path / "sentiment_int8" / "config.pbtxt").read_text())
    assert config.version_policy.latest.num_versions == 2


def test_a_version_never_goes_back(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    for version in (2, 1, 0):
        match = rf"sentiment_int8 has version 2, so the next cannot be {version}"
        refused(repository, RepositoryError, match, lambda staging, v=version: staging.folder("sentiment_int8", v))


def test_a_text_model_needs_its_tensor_models(repository: ModelRepository) -> None:
    match = r"version 1 of sentiment calls sentiment_int8"
    refused(repository, RepositoryError, match, lambda staging: stage_text_model(staging, "sentiment", 1))


def test_a_text_model_needs_the_same_version_of_its_tensor_model(repository: ModelRepository) -> None:
    def mixed(staging: Any) -> None:
        stage_tensor_model(staging, "sentiment", "int8", 2)
        stage_text_model(staging, "sentiment", 1)

    refused(repository, RepositoryError, r"version 1 of sentiment calls sentiment_int8", mixed)


def test_a_folder_that_differs_from_its_manifest_is_refused(repository: ModelRepository) -> None:
    def damaged(staging: Any) -> None:
        stage(staging)
        folder = staging.place / "sentiment_int8" / "1"
        configs = staging._published["sentiment_int8"].configs
        (folder / "model.onnx").write_bytes(b"other")
        staging.publish("sentiment_int8", 1, configs)

    refused(repository, RepositoryError, r"model\.onnx was changed", damaged)


def test_a_manifest_of_another_model_is_refused(repository: ModelRepository) -> None:
    def mixed(staging: Any) -> None:
        stage_tensor_model(staging, "sentiment", "int8", 1)
        configs = staging._published["sentiment_int8"].configs
        (staging.place / "sentiment_int8").rename(staging.place / "topic_int8")
        staging.publish("topic_int8", 1, configs)

    refused(repository, RepositoryError, r"holds the manifest of version 1 of sentiment_int8", mixed)


def test_configs_of_another_model_are_refused(repository: ModelRepository) -> None:
    def mixed(staging: Any) -> None:
        stage(staging)
        staging.publish("sentiment_int8", 1, staging._published["sentiment_fp32"].configs)

    refused(repository, RepositoryError, r"is the config of 'sentiment_fp32'; expected one of sentiment_int8", mixed)


@pytest.mark.parametrize(
    ("configs", "match"),
    [
        ({}, r"has no config\.pbtxt among no configs"),
        ({"config.pbtxt": "backend: 3"}, r"sentiment_int8/config\.pbtxt is not a model config"),
        ({"../config.pbtxt": "name: 'sentiment_int8'"}, r"\.\./config\.pbtxt"),
        ({"1/config.pbtxt": "name: 'sentiment_int8'"}, r"1/config\.pbtxt"),
    ],
)
def test_unsound_configs_are_refused(repository: ModelRepository, configs: dict[str, str], match: str) -> None:
    def unsound(staging: Any) -> None:
        stage_tensor_model(staging, "sentiment", "int8", 1)
        staging.publish("sentiment_int8", 1, configs)

    refused(repository, RepositoryError, match, unsound)


def test_a_text_model_does_not_take_the_name_of_a_tensor_model(repository: ModelRepository) -> None:
    publish(repository)
    match = r"sentiment_int8 is a model of backend onnxruntime already, expected bert_text"
    refused(
        repository,
        RepositoryError,
        match,
        lambda staging: stage(staging, "sentiment_int8", precisions=("fp32",)),
    )


@pytest.mark.parametrize("name", ["", "../x", ".x"])
def test_a_folder_must_be_a_models(repository: ModelRepository, name: str) -> None:
    refused(repository, UsageError, "--name", lambda staging: staging.folder(name, 1))


def test_a_tensor_model_has_no_labels(repository: ModelRepository) -> None:
    publish(repository)
    with pytest.raises(RepositoryError, match=r"sentiment_int8 is no text model: .*--name"):
        repository.check_labels("sentiment_int8", ["a"])


def test_labels_that_cannot_be_read_name_their_file(repository: ModelRepository) -> None:
    publish(repository)
    (repository.path / "sentiment" / "1" / "labels.json").write_text("{")
    with pytest.raises(RepositoryError, match=r"sentiment/1/labels\.json"):
        repository.labels("sentiment")


# --- Commits that end early; tests/integration has those that are killed -----------------------------------


def test_a_commit_that_fails_half_way_is_undone(repository: ModelRepository) -> None:
    """A file in the place of the text model's next version, found when all tensor models are in place."""
    publish(repository)
    config = repository.path / "sentiment_int8" / "config.pbtxt"
    time_ns = config.stat().st_mtime_ns
    (repository.path / "sentiment" / "2").write_text("in the way")
    before = contents(repository.path)
    with pytest.raises(RepositoryError, match=r"model_repository/sentiment/2|sentiment/2 is in the way"):
        publish(repository, precisions=("fp32", "fp16", "int8"), options=ServingOptions(max_queue_size=7))
    assert contents(repository.path) == before
    assert config.stat().st_mtime_ns == time_ns
    assert beside(repository) == ["model_repository"]
    (repository.path / "sentiment" / "2").unlink()
    assert publish(repository) == 2


@pytest.mark.parametrize("target", ["../outside", "/tmp/outside", "sentiment/../../outside", None])  # noqa: S108
def test_an_unsound_journal_is_not_followed(repository: ModelRepository, target: str | None) -> None:
    publish(repository)
    place = repository.path.with_name(".model_repository.export")
    place.mkdir()
    (place / "x").write_text("x")
    (place / "commit.json").write_text(json.dumps([{"source": "x", "target": target}]))
    with pytest.raises(RepositoryError, match=r"export/commit\.json .* look into .* and remove it"):
        publish(repository)
    assert (place / "x").exists()
