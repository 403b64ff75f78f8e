"""`finetune.output` and `finetune.card`: folders that appear whole, and what a checkpoint says about itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune.card import licence, scores_line, write_card
from finetune.errors import OutputError
from finetune.output import whole_folder


def test_appears_whole(tmp_path: Path) -> None:
    output = tmp_path / "a" / "out"
    with whole_folder(output) as folder:
        (folder / "file").write_text("x", encoding="utf-8")
        assert not output.exists()
    assert (output / "file").read_text(encoding="utf-8") == "x"
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert output.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_but_not_what_a_live_one_makes(tmp_path: Path) -> None:
    left = tmp_path / ".out.partial-killed"
    left.mkdir()
    (left / "file").touch()
    with whole_folder(tmp_path / "out") as first, whole_folder(tmp_path / "out", overwrite=True) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
        (second / "file").touch()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


def test_existing_folder_is_kept_unless_told(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"), whole_folder(output):
        pass
    with pytest.raises(RuntimeError), whole_folder(output, overwrite=True):
        raise RuntimeError
    assert (output / "old").exists()
    with whole_folder(output, overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in output.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "file", overwrite=True):
        pass
    with pytest.raises(OutputError, match="cannot write"), whole_folder(tmp_path / "file" / "out"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run the tests as another user")
def test_unwritable_parent(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with (
        pytest.raises(OutputError, match=r"cannot write.*Permission denied"),
        whole_folder(tmp_path / "closed" / "out"),
    ):
        pass


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", "apache-2.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("# Model\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_licence(tmp_path: Path, card: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert licence(str(tmp_path)) == expected


def test_licence_of_a_hub_id() -> None:
    assert licence("someone/some-model") is None


def test_card_states_the_licence_it_was_given(tmp_path: Path) -> None:
    write_card(tmp_path, title="T", base_name="base/model", base_licence="apache-2.0", body="body")
    assert licence(str(tmp_path)) == "apache-2.0"
    assert "base_model: base/model\n" in (tmp_path / "README.md").read_text(encoding="utf-8")
    write_card(tmp_path, title="T", base_name="base/model", base_licence=None, body="body")
    assert licence(str(tmp_path)) is None


def test_scores_line() -> None:
    assert scores_line({"accuracy": 0.88123, "macro_f1": 0.8, "texts": 2200}) == (
        "accuracy 0.8812, macro F1 0.8000 on 2,200 texts"
    )
