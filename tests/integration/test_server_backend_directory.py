"""The backend directory made from the installed wheel and the checkout's backends."""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from server import backend_directory, installation
from server.errors import InstallationError, ResourceError
from server.installation import STUB, Installation
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


def test_a_failed_workspace_leaves_nothing(
    wheel: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(InstallationError):
        Workspace(wheel, tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
