"""A process beside the launcher that cleans up when the launcher is killed.

``python guard.py PREFIX FOLDER``: waits until its stdin closes, which the kernel does however the
launcher dies (PR_SET_PDEATHSIG would fire when the *thread* that started Triton ends). It then kills every
process of the server, deletes its files in /dev/shm and its temporary folder. After a clean stop all of that
is gone already and there is nothing to do. Standard library only, run by path, so it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

KILL_DEADLINE_S = 10.0
ENVIRONMENT_LINK = "python_env"


def processes(prefix: str) -> list[int]:
    """Ids of the live processes whose arguments contain ``prefix``: tritonserver and its backend processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or not ours to read
        is_triton = b"tritonserver" in arguments[0] or b"triton_python_backend_stub" in arguments[0]
        if is_triton and any(prefix.encode() in argument for argument in arguments):
            found.append(int(entry.name))
    return found


def kill_all(prefix: str, deadline_s: float = KILL_DEADLINE_S) -> bool:
    """Kills every process of ``prefix``; True when none is left."""
    end = time.monotonic() + deadline_s
    while alive := processes(prefix):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def remove_environment_folder(folder: Path) -> None:
    """Removes the empty folder in /tmp that the link in a server's ``folder`` names, and the link."""
    link = folder / ENVIRONMENT_LINK
    with contextlib.suppress(OSError):  # no link; folder gone, or not empty and so not ours
        target = link.readlink()
        link.unlink()
        target.rmdir()


def main() -> None:
    """Waits for the launcher's end, then cleans up."""
    prefix, folder = sys.argv[1], Path(sys.argv[2])
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    if kill_all(prefix):
        for path in Path("/dev/shm").glob(prefix + "*"):  # noqa: S108 -- Triton's regions
            path.unlink(missing_ok=True)
    remove_environment_folder(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
