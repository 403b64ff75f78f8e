"""nginx: started in the foreground, told to read a new configuration, ended. Decides nothing."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import certificates
from .errors import NginxError
from .feed import Feed
from .log import Log
from .nginx_config import WORKER_CONNECTIONS
from .process import Child
from .settings import Settings

CHANGE_TIMEOUT_S = 15.0  # of a start or a reload
CHECK_TIMEOUT_S = 30.0
POLL_S = 0.02
_WORKER = "nginx: worker process"
_SHUTTING_DOWN = "is shutting down"


class Nginx:
    """One nginx.

    Args:
        settings: of the gateway.
        log: for its complaints and its access log.
        feed: gets the access log too.

    Raises:
        NginxError: it is not installed.
    """

    def __init__(self, settings: Settings, log: Log, feed: Feed) -> None:
        found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found is None:
            raise NginxError("nginx is missing; install the packages nginx and libnginx-mod-http-js")
        self._nginx = found
        self._settings = settings
        self._log = log
        self._feed = feed
        self._file = settings.state_folder / "nginx.conf"
        self._child: Child | None = None

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it lives."""
        return self._started.returncode

    @property
    def draining(self) -> bool:
        """Whether workers of an earlier configuration still have requests under way."""
        return any(_SHUTTING_DOWN in title for title in self._workers().values())

    def start(self, config: str) -> None:
        """Starts it; it listens when this returns.

        Raises:
            NginxError: it refuses the configuration, or has ended.
        """
        for left_over in self._settings.state_folder.glob("*.sock"):
            left_over.unlink()
        self._check(config)
        _raise_file_limit()
        self._child = Child(self._command(self._file), stdout=self._requests, stderr=self._complaints)
        if not self._wait(lambda: bool(self._workers())):
            self.kill()
            raise NginxError("nginx does not start; its own words are above")

    def reload(self, config: str) -> None:
        """Has it take over another configuration; requests under way finish with the old one.

        Raises:
            NginxError: it goes on with the old one.
        """
        old_file = self._file.read_bytes()
        self._check(config)
        old = set(self._workers())
        self._started.send(signal.SIGHUP)
        if not self._wait(lambda: self._renewed(old)):
            certificates.write_private(self._file, old_file)
            raise NginxError("nginx did not take over the new configuration; its own words are above")

    def quit(self, timeout_s: float) -> bool:
        """Lets it finish what is under way; False if that took too long and it was killed."""
        return self._started.end(signal.SIGQUIT, timeout_s)

    def kill(self) -> None:
        """Ends every process of it at once."""
        if self._child is not None:
            self._child.kill()

    @property
    def _started(self) -> Child:
        if self._child is None:
            raise NginxError("nginx was not started")
        return self._child

    def _command(self, file: Path) -> list[str]:
        # A root's workers would be another user, who may not enter the folder of sockets.
        same_user = ("-g", f"user {pwd.getpwuid(0).pw_name};") if os.geteuid() == 0 else ()
        return [self._nginx, "-e", "stderr", "-c", str(file), *same_user]

    def _check(self, config: str) -> None:
        """Writes the configuration, unless nginx objects."""
        candidate = self._file.with_suffix(".candidate")
        certificates.write_private(candidate, config.encode())
        try:
            tested = subprocess.run(
                [*self._command(candidate), "-t", "-q"], capture_output=True, timeout=CHECK_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise NginxError(f"nginx did not judge its configuration within {CHECK_TIMEOUT_S:g} s") from exc
        if tested.returncode != 0:
            raise NginxError(f"nginx refuses its configuration: {tested.stderr.decode('utf-8', 'replace').strip()}")
        candidate.replace(self._file)

    def _renewed(self, old: set[int]) -> bool:
        """Whether all new workers are there and no old one takes anything new."""
        workers = self._workers()
        new = [pid for pid in workers if pid not in old]
        leaving = all(_SHUTTING_DOWN in workers.get(pid, _SHUTTING_DOWN) for pid in old)
        return len(new) >= self._settings.workers and leaving

    def _workers(self) -> dict[int, str]:
        """Process id and title of every worker."""
        return {pid: title for pid, title in self._started.children().items() if title.startswith(_WORKER)}

    def _wait(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + CHANGE_TIMEOUT_S
        while self.returncode is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(POLL_S)
        return False

    # --- what it writes ---------------------------------------------------------------------------
    def _requests(self, lines: bytes) -> None:
        self._feed.send(lines)
        self._log.requests(lines)

    def _complaints(self, lines: bytes) -> None:
        for line in lines.decode("utf-8", "replace").splitlines():
            self._log.nginx(line)


def _raise_file_limit() -> None:
    """Every connection is an open file, and nginx's workers get our limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * WORKER_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
