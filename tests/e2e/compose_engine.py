"""A container engine for tests: the one that is there, or one of our own that leaves nothing behind.

Ours is a dockerd with its data (images, and so the cache of builds) in build/compose, everything else in a temporary
folder, and a socket of its own. One at a time on a machine, whatever checkout started it: two would change the same
firewall rules.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY_ROOT
from tests.e2e import triton

CACHE = REPOSITORY_ROOT / "build/compose"
LOCK = Path(tempfile.gettempdir(), "bert-triton-engine.lock")
# Set by .ci/run: what would be skipped is a failure.
REQUIRED = "BERT_TRITON_TEST_COMPOSE"
NEEDED_BYTES = 6 << 30  # images, the layers they are built of, and the base image while it is made
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 600.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
EMPTY_TABLES = {
    b"filter": b"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n",
    b"nat": b"*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n",
}
PACKAGES = "docker.io docker-compose mmdebstrap iptables"


def unable(reason: str) -> None:
    """Skips, or fails where these tests are required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{REQUIRED}=required, and {reason}", pytrace=False)
    pytest.skip(reason)


@dataclass(frozen=True)
class Engine:
    """A running engine.

    Attributes:
        environment: for `docker` and `docker-compose`.
        has_firewall: whether it can change this machine's: without, networks are not kept apart.
    """

    environment: Mapping[str, str] = field(repr=False)
    has_firewall: bool = True

    @property
    def build_network(self) -> str:
        """Which network builds use."""
        return "default" if self.has_firewall else "host"

    def docker(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """What a docker command printed."""
        return self.run(["docker", *arguments], timeout_s=timeout_s)

    def log(self, container: str) -> str:
        """What a container has written, to either stream."""
        return self.run(["sh", "-c", f"exec docker logs {container} 2>&1"], timeout_s=60.0)

    def run(self, command: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None) -> str:
        """Runs a command on this engine; returns its output without the last line's end, fails with all of it."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY_ROOT,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"`{' '.join(command)}` ended with {done.returncode}:\n{said}"
        return done.stdout.strip()


def compose_command() -> list[str]:
    """``docker-compose``, or the plugin of the docker that is installed."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=30)
    return ["docker", "compose"] if plugin.returncode == 0 else []


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """The engine that answers already, or one that is started and ended. Skips where there can be none."""
    if not shutil.which("docker") or not compose_command():
        unable(f"docker or docker-compose is not installed; on Debian: apt-get install {PACKAGES}")
    if _answers(os.environ):
        yield Engine(dict(os.environ))
        return
    if shutil.which("dockerd", path=_PATH) is None or os.geteuid() != 0:
        unable(f"no engine answers and none can be started; run as root with dockerd (apt-get install {PACKAGES})")
    CACHE.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(CACHE).free) < NEEDED_BYTES:
        unable(f"{CACHE} has {free >> 30} GB free, images need {NEEDED_BYTES >> 30} GB")
    with _alone(), _firewall(), _folder() as folder:
        yield from _started(folder)


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _answers(environment: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            env=environment,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Waits for its turn."""
    with LOCK.open("w") as lock:
        triton.eventually(
            lambda: _taken(lock.fileno()), LOCK_TIMEOUT_S, f"the end of another engine, which holds {LOCK},"
        )
        yield


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's: a socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="bert-triton-engine-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _taken(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _firewall() -> Iterator[None]:
    """Puts the firewall's rules and forwarding back as they were, and removes the bridge that a first dockerd makes."""
    bridge = Path("/sys/class/net/docker0")
    had_bridge = bridge.exists()
    saved, forwards = _iptables("iptables-save"), FORWARDING.read_text()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # dockerd was not allowed to change it either
            FORWARDING.write_text(forwards)
        if saved is not None:
            # A table without rules is not saved, and what is not there is not restored.
            empty = [rules for table, rules in EMPTY_TABLES.items() if b"*" + table not in saved]
            _iptables("iptables-restore", b"\n".join([saved, *empty]))
        if not had_bridge and bridge.exists() and (ip := shutil.which("ip", path=_PATH)):
            subprocess.run([ip, "link", "delete", "docker0"], capture_output=True, check=False, timeout=20)


def _iptables(command: str, rules: bytes | None = None) -> bytes | None:
    path = shutil.which(command, path=_PATH)
    if path is None:
        return None
    done = subprocess.run([path], input=rules, capture_output=True, check=False, timeout=20)
    return done.stdout if done.returncode == 0 else None


def _started(folder: Path) -> Iterator[Engine]:
    socket = folder / "docker.sock"
    log = CACHE / "dockerd.log"
    command = ["dockerd", "--host", f"unix://{socket}", "--data-root", str(CACHE / "docker")]
    command += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")]
    has_firewall = _iptables("iptables-save") is not None
    if not has_firewall:
        # Without a firewall: networks connect containers, a proxy publishes ports, builds use this machine's network.
        command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    if setpriv := shutil.which("setpriv", path=_PATH):
        command = [setpriv, "--pdeathsig", "TERM", *command]  # also if the tests are killed
    environment = {**os.environ, "PATH": _PATH, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
    environment.pop("DOCKER_CONTEXT", None)
    with log.open("wb") as output:
        daemon = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PATH": _PATH})
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(environment):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            if daemon.poll() is not None:
                unable(f"dockerd ended with {daemon.returncode}:\n{tail}")
            assert time.monotonic() < deadline, f"dockerd does not answer after {START_TIMEOUT_S:g} s:\n{tail}"
            time.sleep(0.2)
        started = Engine(environment, has_firewall)
        started.docker("image", "prune", "--force", "--filter", "until=168h")  # what old builds were made of
        yield started
    finally:
        daemon.terminate()
        try:
            daemon.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
