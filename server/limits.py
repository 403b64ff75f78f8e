"""What a process may use, raised for those that are started meanwhile, as far as this one's own hard limits let it.

open files   A connection is a file, and Triton closes none that a client leaves open; many shells allow 1,024.
stack        Triton (2.51) reads JSON recursively, 80 bytes of its thread's stack for each bracket that is open, and
             ends when the stack does: 104 kB of brackets at the usual 8 MB. Likewise where a body is sent as a form
             (curl -d says so unasked) and is over half of the stack. Where there is no limit, the C library gives
             threads 2 MB. These are addresses; memory is taken as it is used.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

OPEN_FILES = 65_536
STACK_BYTES = 256 << 20


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """While inside, processes are started with higher soft limits; a process keeps those that it was started with."""
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)}
    files, most_files = before[resource.RLIMIT_NOFILE]
    if files != resource.RLIM_INFINITY and files < OPEN_FILES:
        _set(resource.RLIMIT_NOFILE, _at_most(OPEN_FILES, most_files), most_files)
    stack, most_stack = before[resource.RLIMIT_STACK]
    if stack == resource.RLIM_INFINITY or stack < STACK_BYTES:
        _set(resource.RLIMIT_STACK, _at_most(STACK_BYTES, most_stack), most_stack)
    try:
        yield
    finally:
        for kind, (soft, hard) in before.items():
            _set(kind, soft, hard)


def _at_most(wanted: int, hard: int) -> int:
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _set(kind: int, soft: int, hard: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # then it stays as it is
        resource.setrlimit(kind, (soft, hard))
