"""What is missing from a model repository is said before Triton starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import preflight
from server.errors import OptionError, RepositoryError


def model(repository: Path, name: str, *versions: str, configs: tuple[str, ...] = ()) -> None:
    (repository / name / "configs").mkdir(parents=True)
    (repository / name / "config.pbtxt").touch()
    for version in versions:
        (repository / name / version).mkdir()
    for config in configs:
        (repository / name / "configs" / f"{config}.pbtxt").touch()


def test_exported_models_are_named(tmp_path: Path) -> None:
    model(tmp_path, "sentiment", "1", "2")
    model(tmp_path, "sentiment_fp32", "10")
    (tmp_path / ".staging" / "1").mkdir(parents=True)
    (tmp_path / "README.md").touch()
    assert preflight.check(tmp_path) == ["sentiment", "sentiment_fp32"]


@pytest.mark.parametrize(
    ("folder", "what"), [("absent", "does not exist"), ("file", "is not a folder"), ("empty", "holds no model")]
)
def test_nothing_to_serve_says_how_to_make_it(folder: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match=rf"{folder} {what}.*make demo.*python -m export"):
        preflight.check(tmp_path / folder)


def test_a_clean_clone_names_the_models_without_versions(tmp_path: Path) -> None:
    model(tmp_path, "sentiment")
    model(tmp_path, "sentiment_fp32", "0", "01", "latest")
    with pytest.raises(RepositoryError) as caught:
        preflight.check(tmp_path)
    message = str(caught.value)
    assert message.startswith("models sentiment, sentiment_fp32 have a config but no exported version")
    assert "make demo" in message
    assert "--skip-unexported" not in message, "there is nothing else to serve"
    with pytest.raises(RepositoryError, match="no exported version"):
        preflight.check(tmp_path, skip_unexported=True)


def test_models_without_versions_can_be_skipped(tmp_path: Path) -> None:
    model(tmp_path, "mine", "1")
    model(tmp_path, "sentiment")
    with pytest.raises(RepositoryError, match=r"model sentiment has .* serve the others with --skip-unexported"):
        preflight.check(tmp_path)
    assert preflight.check(tmp_path, skip_unexported=True) == ["mine"]


def test_explicit_mode_is_judged_by_the_models_it_loads(tmp_path: Path) -> None:
    model(tmp_path, "mine", "1")
    model(tmp_path, "sentiment")
    explicit = {"model-control-mode": ["explicit"]}
    assert preflight.check(tmp_path, extra_args=explicit) == []
    assert preflight.check(tmp_path, extra_args={**explicit, "load-model": ["mine"]}) == ["mine"]
    for asked in ("*", "sentiment"):
        with pytest.raises(RepositoryError, match="sentiment"):
            preflight.check(tmp_path, extra_args={**explicit, "load-model": [asked]})


def test_polling_may_start_with_an_empty_repository(tmp_path: Path) -> None:
    assert preflight.check(tmp_path, extra_args={"model-control-mode": ["poll"]}) == []


def test_exit_on_error_false_lets_triton_decide(tmp_path: Path) -> None:
    model(tmp_path, "mine", "1")
    model(tmp_path, "sentiment")
    assert preflight.check(tmp_path, extra_args={"exit-on-error": ["false"]}) == ["mine"]


def test_a_misspelt_config_name_is_an_error(tmp_path: Path) -> None:
    model(tmp_path, "sentiment", "1", configs=("cpu", "gpu"))
    model(tmp_path, "other", "1")
    preflight.check(tmp_path, model_config_name="gpu")
    with pytest.raises(OptionError, match=r"gqu.*they have cpu, gpu"):
        preflight.check(tmp_path, model_config_name="gqu")
