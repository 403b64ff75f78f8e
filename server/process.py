"""One tritonserver process and its backend processes: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from server import guard, installation, limits
from server.errors import StartError
from server.log import Log
from server.workspace import Workspace

ENVIRONMENT_FOLDERS = Path("/tmp")  # noqa: S108 -- written in Triton's Python backend


class TritonProcess:
    """A started tritonserver.

    Args:
        arguments: its command line after the binary.
        workspace: whose installation it runs and whose memory prefix it uses.
        log_sink: where its log goes.
        environment: further variables.

    Raises:
        StartError: the binary cannot be executed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        workspace: Workspace,
        log_sink: BinaryIO,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._memory = workspace.memory
        self._folder = workspace.folder
        binary = workspace.binary
        try:
            with limits.raised():
                self._popen = subprocess.Popen(
                    [str(binary), *arguments],
                    env=installation.environment(workspace.installation, {**os.environ, **environment}),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the launcher only, which decides
                    pass_fds=(self._memory.lock_fd,),  # held by every process of the server: see server.shared_memory
                )
        except OSError as exc:
            raise StartError(f"cannot execute {binary}: {exc.strerror}") from exc
        assert self._popen.stdout is not None  # noqa: S101 -- because of PIPE; for mypy
        self.log = Log(self._popen.stdout, log_sink)
        self._started_s = time.time()

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it lives, negative for a signal."""
        return self._popen.poll()

    def remember_environment_folder(self) -> None:
        """Notes the folder that Triton's Python backend just made; to be called once it has loaded a model.

        It is /tmp/python_env_XXXXXX whatever TMPDIR says, stays empty here, and is left behind by a killed Triton. With
        two servers starting at the same moment it is not known whose is whose, and both are left alone.
        """
        ours = [path for path in ENVIRONMENT_FOLDERS.glob("python_env_*") if self._made_since_start(path)]
        if len(ours) == 1:
            (self._folder / guard.ENVIRONMENT_LINK).symlink_to(ours[0])

    def _made_since_start(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        return status.st_uid == os.getuid() and status.st_mtime > self._started_s - 0.1

    def terminate(self) -> None:
        """Asks Triton to finish what is in flight and to end; returns at once."""
        if self.returncode is None:
            self._popen.terminate()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for its end; False if it lives longer than ``timeout_s``."""
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends it and its backend processes at once and removes their memory; safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        # Backend processes outlive tritonserver for a moment, and may have left its process group.
        guard.kill_all(self._memory.prefix)
        self.log.join()
        self._memory.clear()
        guard.remove_environment_folder(self._folder)
