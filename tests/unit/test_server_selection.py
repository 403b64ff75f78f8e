"""Which versions are served, and the folder that shows them to Triton."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.repository import ModelRepository
from server import selection
from server.control import change
from server.errors import ChangeError, RepositoryError
from server.selection import Selection
from tests.tiny_repository import publish

NAMES = ("sentiment", "sentiment_fp32", "sentiment_int8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three exports of one model."""
    repository = ModelRepository(tmp_path / "model_repository")
    for _ in range(3):
        publish(repository)
    return repository.path


def versions(selected: Selection) -> dict[str, tuple[int, ...]]:
    return {name: model.versions for name, model in selected.models.items()}


def test_the_policies_select_and_the_tensor_model_follows_its_text_model(repository: Path) -> None:
    selected = Selection.read(repository, NAMES)
    assert versions(selected) == {"sentiment": (3,), "sentiment_fp32": (2, 3), "sentiment_int8": (2, 3)}
    assert selected.called() == {"sentiment_int8": {3}}
    assert [model.name for model in selected.in_order()][-1] == "sentiment"
    assert len(selected.folders()) == 5

    back = Selection.read(repository, NAMES, withdrawn={"sentiment": [2, 3]}, needed={"sentiment_int8": [3]})
    assert versions(back) == {"sentiment": (1,), "sentiment_fp32": (2, 3), "sentiment_int8": (1, 3)}
    anew = Selection.read(repository, NAMES, withdrawn={"sentiment": [2, 3]})
    assert versions(anew)["sentiment_int8"] == (1,), "a version that was rolled back from may be one that does not load"


def test_a_version_policy_written_by_hand_is_followed(repository: Path) -> None:
    config = repository / "sentiment" / "config.pbtxt"
    text = config.read_text().replace("latest {\n    num_versions: 1\n  }", "specific {\n    versions: 1\n  }")
    config.write_text(text)
    assert versions(Selection.read(repository, NAMES))["sentiment"] == (1,)
    assert versions(Selection.read(repository, NAMES))["sentiment_int8"] == (1, 3)
    with pytest.raises(RepositoryError, match="model sentiment has nothing to serve"):
        Selection.read(repository, NAMES, withdrawn={"sentiment": [1]})


def test_a_text_model_needs_its_tensor_model(repository: Path) -> None:
    (repository / "sentiment_int8" / "3").rename(repository / "away")
    with pytest.raises(RepositoryError, match="version 3 of sentiment calls version 3 of sentiment_int8, which is not"):
        Selection.read(repository, NAMES)
    with pytest.raises(RepositoryError, match="which is not there"):
        Selection.read(repository, ["sentiment"])


def test_a_policy_that_drops_what_is_called_is_named(repository: Path) -> None:
    config = repository / "sentiment_int8" / "config.pbtxt"
    config.write_text(config.read_text().replace("num_versions: 2", "num_versions: 1"))
    with pytest.raises(RepositoryError, match="sentiment_int8 selects version 3 of version 2, 3, but version 2"):
        Selection.read(repository, NAMES, needed={"sentiment_int8": [2]})


def shown(view: Path) -> dict[str, list[str]]:
    return {folder.name: sorted(entry.name for entry in folder.iterdir()) for folder in sorted(view.iterdir())}


def test_a_view_shows_a_selection_and_nothing_that_comes_later(repository: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    selection.write(view, Selection.read(repository, NAMES))
    assert shown(view)["sentiment"] == ["3", "config.pbtxt", "configs"]
    assert shown(view)["sentiment_int8"] == ["2", "3", "config.pbtxt", "configs"]
    assert (view / "sentiment" / "3" / "labels.json").read_text() == '["negative", "positive"]'
    config = (view / "sentiment" / "config.pbtxt").stat()
    publish(ModelRepository(repository), options=change_of_options())
    assert shown(view)["sentiment"] == ["3", "config.pbtxt", "configs"]
    assert (view / "sentiment" / "config.pbtxt").stat() == config, "a copy"

    selection.write(view, Selection.read(repository, NAMES[:1] + NAMES[2:]))
    assert shown(view) == {
        "sentiment": ["4", "config.pbtxt", "configs"],
        "sentiment_int8": ["3", "4", "config.pbtxt", "configs"],
    }
    config = (view / "sentiment" / "config.pbtxt").stat()
    selection.write(view, Selection.read(repository, NAMES[:1] + NAMES[2:]))
    assert (view / "sentiment" / "config.pbtxt").stat() == config, "what stays the same is not written again"


def test_a_view_follows_links_and_forgets_configs_as_the_selection_does(repository: Path, tmp_path: Path) -> None:
    view, version = tmp_path / "view", repository / "sentiment" / "3"
    version.rename(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    for target in ("first", "second"):
        version.unlink(missing_ok=True)
        version.symlink_to(tmp_path / target)
        selection.write(view, Selection.read(repository, NAMES))
        assert (view / "sentiment" / "3").resolve() == tmp_path / target
    assert (view / "sentiment" / "configs" / "gpu.pbtxt").exists()
    (repository / "sentiment" / "configs" / "gpu.pbtxt").unlink()
    selection.write(view, Selection.read(repository, NAMES))
    assert not (view / "sentiment" / "configs" / "gpu.pbtxt").exists()


def test_what_is_gone_cannot_be_shown(repository: Path, tmp_path: Path) -> None:
    selected = Selection.read(repository, NAMES)
    shutil.rmtree(repository / "sentiment")
    with pytest.raises(
        RepositoryError, match=r"model sentiment cannot be shown to Triton: .*; restore .*sentiment, and"
    ):
        selection.write(tmp_path / "view", selected)
    with pytest.raises(RepositoryError, match=r"model folder .*sentiment cannot be read"):
        Selection.read(repository, NAMES)


def change_of_options() -> object:
    from export.serving import ServingOptions

    return ServingOptions(cache_size=7)


# --- What may follow what ---


def test_a_new_version_of_the_same_kind_may_follow(repository: Path) -> None:
    before = Selection.read(repository, NAMES)
    publish(ModelRepository(repository), options=change_of_options())
    change.check(before, Selection.read(repository, NAMES))


def test_other_labels_are_refused(repository: Path) -> None:
    before = Selection.read(repository, NAMES)
    publish(ModelRepository(repository), labels=("bad", "good"), allow_labels=True)
    with pytest.raises(ChangeError) as caught:
        change.check(before, Selection.read(repository, NAMES))
    assert caught.value.message == (
        "version 4 of sentiment is refused: its labels are bad, good, those of version 3 are negative, positive; what "
        "was served before goes on; export it under another --name, or restart the server to take it"
    )


def test_a_version_that_took_anothers_number_is_not_the_same(repository: Path) -> None:
    before = Selection.read(repository, NAMES)
    for name in NAMES:
        shutil.rmtree(repository / name / "3")
    assert publish(ModelRepository(repository)) == 3
    after = Selection.read(repository, NAMES)
    assert versions(before) == versions(after)
    assert all(before.models[name].manifests != after.models[name].manifests for name in NAMES)
    for name in NAMES:
        shutil.rmtree(repository / name / "3")
    publish(ModelRepository(repository), labels=("bad", "good"), allow_labels=True)
    with pytest.raises(ChangeError, match="version 3 of sentiment is refused: its labels are bad, good"):
        change.check(before, Selection.read(repository, NAMES))


def test_another_signature_is_refused(repository: Path) -> None:
    before = Selection.read(repository, NAMES)
    publish(ModelRepository(repository), labels=("bad", "fair", "good"), allow_labels=True)
    with pytest.raises(ChangeError, match=r"version 4 of \w+ is refused: it would change from \[.*\[2\]\].*\[3\]\]"):
        change.check(before, Selection.read(repository, NAMES))
