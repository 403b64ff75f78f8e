"""The folder for Triton's ``--backend-directory``: made for one server, or prepared once for many.

Triton wants one folder with a subfolder per backend, and the Python backend's library beside the stub
of the running Python; the wheel ships those apart, and ours are in the checkout. A server makes a folder of its own in
its temporary folder, so concurrent starts cannot meet and site-packages is only read. Where programs may not be run
from there (a container whose /tmp is mounted noexec), ``python -m server prepare FOLDER`` makes one when the image is
built, and ``--backend-directory FOLDER`` uses it as it is.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from server.errors import InstallationError, ResourceError
from server.installation import STUB, Installation

BACKENDS = Path(__file__).resolve().parent.parent / "backends"
LIBRARY = Path("python", "libtriton_python.so")
BINARY = "tritonserver"  # only where the installed one cannot be executed


def prepare(installation: Installation, target: Path, backends: Path = BACKENDS) -> Path:
    """Fills ``target`` with Triton's Python backend and every backend of ``backends``.

    Args:
        installation: the Triton whose Python backend is used.
        target: an empty or absent folder.
        backends: folder with a subfolder per backend, each holding ``model.py``.

    Raises:
        InstallationError: ``backends`` holds no backend.
        ResourceError: ``target`` cannot be written, or holds something.
    """
    ours = _ours(backends)
    try:
        if target.is_dir() and any(target.iterdir()):
            raise ResourceError(f"{target} is not empty; give a folder that is new or empty")
        _fill(installation, target, ours)
    except OSError as exc:
        raise ResourceError(f"cannot prepare Triton's backend directory in {target}: {exc}") from exc
    return target


def _fill(installation: Installation, target: Path, ours: list[Path]) -> None:
    python = target / "python"
    python.mkdir(parents=True)
    for source in installation.python_backend.iterdir():
        # Copied, not linked: Triton refuses a backend library whose real path leaves its backend directory.
        if source.is_file():
            shutil.copyfile(source, python / source.name)
    stub = python / STUB
    if _executable(installation.stub, stub) != stub:
        stub.symlink_to(installation.stub)
    _executable(installation.binary, target / BINARY)
    for folder in ours:
        (target / folder.name).symlink_to(folder.resolve(), target_is_directory=True)


def check(installation: Installation, folder: Path, backends: Path = BACKENDS) -> Path:
    """``folder``, if `prepare` made it for this Triton and these backends and programs can be run from it.

    Raises:
        InstallationError: it is not, or programs cannot be run from it.
    """
    wanted = {
        LIBRARY: installation.python_backend / LIBRARY.name,
        Path("python", STUB): installation.stub,
        **{Path(ours.name, "model.py"): ours / "model.py" for ours in _ours(backends)},
    }
    again = "make one with `python -m server prepare FOLDER`"
    for name, source in wanted.items():
        if not (folder / name).is_file():
            raise InstallationError(f"--backend-directory {folder} has no {name}, so it is not a prepared one; {again}")
        if not filecmp.cmp(folder / name, source, shallow=False):
            raise InstallationError(
                f"--backend-directory {folder} was prepared for another Triton or checkout: its {name} is not that of "
                f"{source}; {again}"
            )
    if not may_execute(folder) or not os.access(folder / "python" / STUB, os.X_OK):
        raise InstallationError(
            f"--backend-directory {folder} cannot be used: programs cannot be run from it; mount it without noexec"
        )
    return folder


def binary(installation: Installation, folder: Path) -> Path:
    """The ``tritonserver`` to run with the backend directory ``folder``."""
    spare = folder / BINARY
    return spare if spare.exists() else installation.binary


def may_execute(folder: Path) -> bool:
    """Whether the mount of ``folder`` lets programs be run."""
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC


def _ours(backends: Path) -> list[Path]:
    ours = sorted(folder.parent for folder in backends.glob("*/model.py"))
    if not ours:
        raise InstallationError(f"{backends} holds no backend (a folder with model.py); the checkout is incomplete")
    return ours


def _executable(source: Path, spare: Path) -> Path:
    """``source``, or a copy at ``spare`` that can be executed where the installer dropped the x bit."""
    if os.access(source, os.X_OK):
        return source
    shutil.copyfile(source, spare)
    spare.chmod(0o755)
    return spare
