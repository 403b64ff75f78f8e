"""Takes a secret out of another process's command line, which every user of the machine can read.

Triton takes the keys of its restricted APIs as flags and nowhere else. Once it has read its flags, the bytes that
``ps`` shows are of no use to it, and a parent may overwrite them in its child's memory. Until then, from the start of
the process to its first line of log, they are visible.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ARG_START, ARG_END = 45, 46  # fields of /proc/<pid>/stat after the name, see proc_pid_stat(5): 48 and 49


def overwrite(pid: int, secrets: Iterable[str]) -> bool:
    """Replaces every occurrence of ``secrets`` in the arguments of process ``pid`` by x; whether none is left.

    The process must be this one's child and run as the same user; some sandboxes do not allow it even then.
    """
    process, wanted = Path("/proc", str(pid)), [secret.encode() for secret in secrets]
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[ARG_START]), int(fields[ARG_END])
        with (process / "mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            for secret in wanted:
                at = arguments.find(secret)
                while at >= 0:
                    memory.seek(start + at)
                    memory.write(b"x" * len(secret))
                    at = arguments.find(secret, at + len(secret))
        left = (process / "cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return False
    return not any(secret in left for secret in wanted)
