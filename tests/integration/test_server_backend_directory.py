"""The backend directory made from the installed wheel and the checkout's backends."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from server import backend_directory, installation
from server.errors import InstallationError, ResourceError
from server.installation import STUB, Installation
from server.subcommands import main
from server.workspace import Workspace


@pytest.fixture(scope="module")
def wheel() -> Installation:
    return installation.find()


@pytest.fixture
def backends(tmp_path: Path) -> Path:
    (tmp_path / "backends" / "mine").mkdir(parents=True)
    (tmp_path / "backends" / "mine" / "model.py").touch()
    (tmp_path / "backends" / "notes").mkdir()
    return tmp_path / "backends"


def test_holds_tritons_python_backend_and_ours(wheel: Installation, backends: Path, tmp_path: Path) -> None:
    made = backend_directory.prepare(wheel, tmp_path / "made", backends)
    assert sorted(path.name for path in made.iterdir()) == ["mine", "python"]
    assert os.access(made / "python" / STUB, os.X_OK)
    # Triton refuses a library whose real path is outside the backend directory.
    assert (made / "python" / "libtriton_python.so").resolve().is_relative_to(made.resolve())
    assert (made / "mine" / "model.py").exists()


def test_the_checkout_has_its_backends(wheel: Installation, tmp_path: Path) -> None:
    made = backend_directory.prepare(wheel, tmp_path / "made")
    assert {"bert_text", "onnxruntime", "openvino", "python"} <= {path.name for path in made.iterdir()}


def test_a_stub_without_the_executable_bit_is_copied_and_site_packages_left_alone(
    wheel: Installation, backends: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed" / STUB
    installed.parent.mkdir()
    shutil.copyfile(wheel.stub, installed)
    installed.chmod(0o444)
    made = backend_directory.prepare(replace(wheel, stub=installed), tmp_path / "made", backends)
    assert stat.S_IMODE(installed.stat().st_mode) == 0o444
    assert not (made / "python" / STUB).is_symlink()
    assert os.access(made / "python" / STUB, os.X_OK)
    assert (made / "python" / STUB).read_bytes() == installed.read_bytes()


def test_a_folder_without_backends_is_named(wheel: Installation, tmp_path: Path) -> None:
    with pytest.raises(InstallationError, match=f"{tmp_path} holds no backend"):
        backend_directory.prepare(wheel, tmp_path / "made", tmp_path)


def test_concurrent_servers_have_workspaces_of_their_own(
    wheel: Installation, backends: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with ThreadPoolExecutor(4) as pool:
        workspaces = list(pool.map(lambda _: Workspace(wheel, backends), range(4)))
    assert len({workspace.folder for workspace in workspaces}) == 4
    assert len({workspace.memory.prefix for workspace in workspaces}) == 4
    assert all((workspace.backend_directory / "mine").exists() for workspace in workspaces)
    for workspace in workspaces:
        workspace.close()
        workspace.close()
    assert list(tmp_path.glob("bert-triton-*")) == []


def test_a_temporary_folder_that_may_not_hold_programs_is_passed_over(
    wheel: Installation, backends: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, noexec = os.statvfs, {str(tmp_path / "tmp"), str(tmp_path / "cache")}

    def statvfs(path: Path) -> SimpleNamespace | os.statvfs_result:
        return SimpleNamespace(f_flag=os.ST_NOEXEC) if str(path.parent) in noexec else real(path)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(ResourceError, match=r"tmp and .*cache cannot be written or are mounted noexec; set TMPDIR"):
        Workspace(wheel, backends)
    noexec.remove(str(tmp_path / "cache"))
    with Workspace(wheel, backends) as workspace:
        assert workspace.folder.parent == tmp_path / "cache"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_prepared_folder_is_used_as_it_is_whatever_the_temporary_one_allows(
    wheel: Installation, backends: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backend_directory.prepare(wheel, tmp_path / "made", backends)
    before = sorted(made.rglob("*"))
    (tmp_path / "tmp").mkdir()
    real = os.statvfs
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(
        os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC) if "tmp/bert" in str(path) else real(path)
    )
    with Workspace(wheel, backends, made) as workspace:
        assert workspace.backend_directory == made
        assert workspace.binary == wheel.binary
        assert list(workspace.folder.iterdir()) == []
        assert workspace.folder.parent == tmp_path / "tmp"
    assert sorted(made.rglob("*")) == before
    assert list((tmp_path / "tmp").iterdir()) == []


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def of_another_triton(folder: Path) -> None:
    with (folder / "python" / "libtriton_python.so").open("ab") as file:
        file.write(b"!")


def without_a_stub(folder: Path) -> None:
    (folder / "python" / STUB).unlink()


def of_another_checkout(folder: Path) -> None:
    (folder / "mine").unlink()
    (folder / "mine").mkdir()
    (folder / "mine" / "model.py").write_text("# older\n")


def not_to_be_executed(folder: Path) -> None:
    source = (folder / "python" / STUB).resolve()
    (folder / "python" / STUB).unlink()
    shutil.copyfile(source, folder / "python" / STUB)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"has no python/libtriton_python\.so, so it is not a prepared one; make one with `python -m"),
        (empty, r"has no python/libtriton_python\.so, so it is not a prepared one"),
        (without_a_stub, rf"has no python/{STUB}, so it is not a prepared one"),
        (
            of_another_triton,
            r"was prepared for another Triton or checkout: its python/libtriton_python\.so is not that",
        ),
        (of_another_checkout, r"was prepared for another Triton or checkout: its mine/model\.py is not that"),
        (not_to_be_executed, r"programs cannot be run from it; mount it without noexec"),
    ],
)
def test_a_folder_that_is_not_a_prepared_one_is_named(
    wheel: Installation, backends: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    made = backend_directory.prepare(wheel, tmp_path / "made", backends)
    spoil(made)
    with pytest.raises(InstallationError, match=message):
        Workspace(wheel, backends, made)


def test_a_binary_without_the_executable_bit_is_prepared_too(
    wheel: Installation, backends: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    installed.write_text("not a real one")
    made = backend_directory.prepare(replace(wheel, binary=installed), tmp_path / "made", backends)
    assert backend_directory.binary(wheel, made) == made / "tritonserver"
    assert os.access(made / "tritonserver", os.X_OK)


def test_the_command_prepares_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    assert main(["prepare", str(made)]) == 0
    assert capsys.readouterr().out == f"wrote {made}; next: python -m server --backend-directory {made}\n"
    assert main(["prepare", str(made)]) == 1
    assert f"{made} is not empty; give a folder that is new or empty" in capsys.readouterr().err


def test_a_failed_workspace_leaves_nothing(
    wheel: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(InstallationError):
        Workspace(wheel, tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
