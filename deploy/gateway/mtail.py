"""mtail, which counts the lines of the access log and serves the counts: started and ended."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from .errors import MtailError
from .log import Log
from .process import Child
from .settings import Settings

PROGRAM = Path(__file__).with_name("access_log.mtail")
STOP_TIMEOUT_S = 2.0


class Mtail:
    """One mtail.

    Args:
        settings: of the gateway.
        log: for its complaints.

    Raises:
        MtailError: it is not installed.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        found = shutil.which("mtail")
        if found is None:
            raise MtailError("mtail is missing; install the package mtail")
        self._mtail = found
        self._settings = settings
        self._log = log
        self._child: Child | None = None

    @staticmethod
    def socket(settings: Settings) -> Path:
        """Where it takes lines."""
        return settings.state_folder / "mtail.socket"

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.returncode is None

    def start(self) -> None:
        """Starts it, after ending the one before; it takes lines a little later."""
        self.stop()
        path = self.socket(self._settings)
        path.unlink(missing_ok=True)
        self._child = Child(
            [
                self._mtail,
                f"-progs={PROGRAM}",
                f"-logs=unix://{path}",
                f"-address={self._settings.metrics_host}",
                f"-port={self._settings.metrics_port}",
                "-logtostderr",
                "-emit_prog_label=false",
                "-vm_logs_runtime_errors=false",
            ],
            stderr=self._complaints,
        )

    def stop(self) -> None:
        """Ends it."""
        if self._child is not None:
            self._child.end(signal.SIGTERM, STOP_TIMEOUT_S)
        self._child = None

    def _complaints(self, lines: bytes) -> None:
        # glog: I for information, which is about its start and its end only
        for line in lines.decode("utf-8", "replace").splitlines():
            if line[:1] != "I":
                self._log.event("mtail", "error" if line[:1] in "EF" else "warning", message=line)
