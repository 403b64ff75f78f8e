"""A noisy neighbour: processes that burn a set share of every core, while a benchmark runs beside them.

Each works for its share of every `PERIOD_S` and sleeps for the rest, so the scheduler sees what a container with a CPU
quota looks like, not a process that it can park on one core. They end with `Neighbour`, or with its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import TracebackType

PERIOD_S = 0.02


class Neighbour:
    """``share`` of each of ``cores`` cores is burnt between enter and exit.

    Args:
        share: 0 to 1; 0 starts nothing.
        cores: processes; by default one for each core that may be used.

    Raises:
        ValueError: a share outside 0 to 1.
    """

    def __init__(self, share: float, cores: int | None = None) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; expected 0 to 1")
        self.share = share
        self.cores = len(os.sched_getaffinity(0)) if cores is None else cores
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Neighbour:
        if self.share:
            command = [sys.executable, "-I", __file__, str(self.share), str(os.getpid())]
            self._processes = [subprocess.Popen(command) for _ in range(self.cores)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []

    @property
    def pids(self) -> list[int]:
        """The processes that burn."""
        return [process.pid for process in self._processes]


def burn(share: float, parent: int) -> None:
    """Burn ``share`` of a core until the process ``parent`` is gone."""
    while os.getppid() == parent:
        started = time.monotonic()
        while time.monotonic() - started < share * PERIOD_S:
            pass
        time.sleep((1 - share) * PERIOD_S)


if __name__ == "__main__":
    burn(float(sys.argv[1]), int(sys.argv[2]))
