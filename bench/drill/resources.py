"""What a server's processes hold: memory, shared memory, file descriptors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from server import TritonServer
from server.shared_memory import DEV_SHM, NAME

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Resources:
    """At one moment.

    Attributes:
        resident_mb: resident memory of all processes, in MiB; pages that they share count for each.
        shared_mb: files of the server's in /dev/shm, in MiB.
        descriptors: open file descriptors of all processes.
    """

    resident_mb: float
    shared_mb: float
    descriptors: int

    def growth_percent(self, before: Resources) -> float:
        """Of the resident memory."""
        return (self.resident_mb / before.resident_mb - 1) * 100

    def __str__(self) -> str:
        return (
            f"{self.resident_mb:.0f} MiB resident, {self.shared_mb:.0f} MiB in /dev/shm, {self.descriptors} descriptors"
        )


def server_processes(server: TritonServer) -> list[psutil.Process]:
    """Triton and its backend processes."""
    triton = psutil.Process(server.pid)
    return [triton, *triton.children(recursive=True)]


def resources(processes: Sequence[psutil.Process]) -> Resources:
    """What processes of a server hold now that this process started, and no other server beside it."""
    shared = sum(path.stat().st_size for path in DEV_SHM.glob(f"{NAME}{os.getpid()}_*"))
    return Resources(
        sum(process.memory_info().rss for process in processes) / MEGABYTE,
        shared / MEGABYTE,
        sum(process.num_fds() for process in processes),
    )
