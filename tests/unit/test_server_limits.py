"""What a started process may use."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from server import limits

SHOW = "import resource as r; print(*r.getrlimit(r.RLIMIT_NOFILE), *r.getrlimit(r.RLIMIT_STACK))"


def started() -> list[int]:
    """Soft and hard limits of a child: open files, stack."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_a_child_gets_more_and_its_parent_keeps_what_it_had() -> None:
    before = [*resource.getrlimit(resource.RLIMIT_NOFILE), *resource.getrlimit(resource.RLIMIT_STACK)]
    with limits.raised():
        files, most_files, stack, most_stack = started()
    assert [*resource.getrlimit(resource.RLIMIT_NOFILE), *resource.getrlimit(resource.RLIMIT_STACK)] == before
    assert [most_files, most_stack] == [before[1], before[3]]
    for soft, hard, wanted in ((files, most_files, limits.OPEN_FILES), (stack, most_stack, limits.STACK_BYTES)):
        assert soft >= (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))


def test_a_hard_limit_is_kept_to_and_no_limit_is_one_for_stacks() -> None:
    script = f"""
import resource, subprocess, sys
from server import limits
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
resource.setrlimit(resource.RLIMIT_STACK, (resource.getrlimit(resource.RLIMIT_STACK)[1],) * 2)
with limits.raised():
    subprocess.run([sys.executable, "-c", {SHOW!r}], check=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    files, most_files, stack, _ = map(int, done.stdout.split())
    assert (files, most_files) == (200, 200)
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("the hard limit of the stack is a number here; run it where `ulimit -Hs` is unlimited")
    assert stack == limits.STACK_BYTES
