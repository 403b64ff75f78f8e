"""What one server owns besides its process: memory prefix, temporary folder, backend directory, guard.

Made once per server and kept over restarts; closed only when no process of the server lives.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from server import backend_directory, guard, shared_memory
from server.errors import ResourceError
from server.installation import Installation

GUARD_TIMEOUT_S = 15.0


class Workspace:
    """Everything that has to be cleaned up after one server.

    Args:
        installation: the Triton to prepare for.
        backends: folder of our Python-based backends.
        prepared: a backend directory that there is already; by default one is made.

    Raises:
        InstallationError: ``prepared`` cannot be used, or there are no backends.
        ResourceError: /dev/shm or the temporary folder is unusable.
    """

    def __init__(self, installation: Installation, backends: Path, prepared: Path | None = None) -> None:
        self.installation = installation
        if prepared is not None:
            prepared = backend_directory.check(installation, prepared.resolve(), backends)
        with contextlib.ExitStack() as stack:
            shared_memory.remove_leftovers()
            self.memory = shared_memory.SharedMemory.claim()
            stack.callback(self.memory.release)
            self.folder = _temporary_folder(executable=prepared is None)
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._start_guard(stack)
            self.backend_directory = prepared or backend_directory.prepare(
                installation, self.folder / "backends", backends
            )
            self.binary = backend_directory.binary(installation, self.backend_directory)
            self._stack = stack.pop_all()

    def _start_guard(self, stack: contextlib.ExitStack) -> None:
        process = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, self.memory.prefix, str(self.folder)],
            stdin=subprocess.PIPE,  # closes with this process, whatever ends it
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        stack.callback(_end_guard, process)

    def select(self, repository: Path, models: Iterable[str]) -> Path:
        """A model repository with links to some models of another one."""
        selected = self.folder / "model_repository"
        selected.mkdir(exist_ok=True)
        for name in models:
            if not (selected / name).is_symlink():
                (selected / name).symlink_to(repository / name, target_is_directory=True)
        return selected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes everything; safe to call twice."""
        self._stack.close()


def _temporary_folder(*, executable: bool) -> Path:
    """A new folder; ``executable``: one from which Triton may load its Python backend.

    /tmp is often mounted noexec (docker's --tmpfs is by default); then the user's cache folder is used.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tried = []
    for parent in (_usual_folder(), cache):
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="bert-triton-", dir=parent))
            if not executable or backend_directory.may_execute(folder):
                return folder
            folder.rmdir()
        tried.append(str(parent))
    if not executable:
        raise ResourceError(f"{' and '.join(tried)} cannot be written; set TMPDIR to a folder that can")
    raise ResourceError(
        f"found no folder for Triton's backends: {' and '.join(tried)} cannot be written or are mounted noexec; "
        "set TMPDIR to a writable folder from which programs can be run, or give --backend-directory"
    )


def _usual_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none of those that Python knows can be written
        return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def _end_guard(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(GUARD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
