"""A virtual environment of its own for a contestant, from its requirements file: made once, kept, whole or absent."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.compare.contestant import Unavailable

FOLDER = Path("build/bench/envs")
_STAMP = "requirements.sha256"
_LAST_LINES = 3


def environment(name: str, requirements: Path, *, timeout_s: float = 900.0) -> Path:
    """The Python of the environment, an absolute path; installs it on first use and when the requirements changed.

    Args:
        name: of the folder.
        requirements: a pip requirements file, pinned.
        timeout_s: for pip.

    Raises:
        Unavailable: pip failed; the message ends with its last lines.
    """
    folder = FOLDER.resolve() / name
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / _STAMP
    python = folder / "bin/python"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)  # a virtual environment cannot be moved: made in place, stamped last
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"  installing {requirements} into {folder}", file=sys.stderr)
    with tempfile.TemporaryFile("w+") as output:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, "--requirement", str(requirements)],
        ):
            try:
                done = subprocess.run(command, stdout=output, stderr=output, check=False, timeout=timeout_s)
                failed = done.returncode != 0
            except subprocess.TimeoutExpired:
                failed = True
                print(f"gave up after {timeout_s:g} s", file=output)
            if failed:
                output.seek(0)
                lines = [line.strip() for line in output.read().splitlines() if line.strip()]
                shutil.rmtree(folder, ignore_errors=True)
                raise Unavailable(f"cannot install {requirements.name}: " + " / ".join(lines[-_LAST_LINES:]))
    partial = stamp.with_suffix(".partial")
    partial.write_text(digest)
    partial.replace(stamp)
    return python
