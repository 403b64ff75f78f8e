"""Prepares the folder for Triton's ``--backend-directory``.

Triton wants one folder with a subfolder per backend, and the Python backend's library beside the stub
of the running Python; the wheel ships those apart, and ours are in the checkout. Every server gets a
folder of its own in its own temporary folder, so concurrent starts cannot meet and site-packages is only read.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from server.errors import InstallationError
from server.installation import STUB, Installation

BACKENDS = Path(__file__).resolve().parent.parent / "backends"


def prepare(installation: Installation, target: Path, backends: Path = BACKENDS) -> Path:
    """Fills ``target`` with Triton's Python backend and every backend of ``backends``.

    Args:
        installation: the Triton whose Python backend is used.
        target: an empty or absent folder that belongs to one server.
        backends: folder with a subfolder per backend, each holding ``model.py``.

    Raises:
        InstallationError: ``backends`` holds no backend.
    """
    ours = sorted(folder.parent for folder in backends.glob("*/model.py"))
    if not ours:
        raise InstallationError(f"{backends} holds no backend (a folder with model.py); the checkout is incomplete")
    python = target / "python"
    python.mkdir(parents=True)
    for source in installation.python_backend.iterdir():
        # Copied, not linked: Triton refuses a backend library whose real path leaves its backend directory.
        if source.is_file():
            shutil.copyfile(source, python / source.name)
    stub = python / STUB
    if executable(installation.stub, stub) != stub:
        stub.symlink_to(installation.stub)
    for folder in ours:
        (target / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    return target


def executable(source: Path, spare: Path) -> Path:
    """``source``, or a copy at ``spare`` that can be executed where the installer dropped the x bit."""
    if os.access(source, os.X_OK):
        return source
    shutil.copyfile(source, spare)
    spare.chmod(0o755)
    return spare
