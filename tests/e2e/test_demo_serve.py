"""`python -m demo serve`: what `make demo` and `make run` end with."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.conftest import REPOSITORY_ROOT

FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


def command(tmp_path: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "demo", "serve", "--log", str(tmp_path / "server.log"), *flags]


def test_the_demo_answers_and_stops(demo_repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--stop-after-answers", *FREE_PORTS),
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("positive", "negative"))]
    assert answers == ["positive", "negative", "negative", "positive"]


def test_the_demo_keeps_serving_until_it_is_ended(demo_repository: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path, *FREE_PORTS), cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = next(word.rstrip(",;") for word in next(lines).split() if word.startswith("http://"))
            next(line for line in lines if line.startswith("serving until"))
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=60) as response:
                assert response.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0
        finally:
            process.kill()


def test_a_taken_port_is_one_clear_line(demo_repository: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(tmp_path, *FREE_PORTS[2:], "--http-port", str(port)),
            cwd=REPOSITORY_ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"port {port}" in done.stderr
    assert "--http-port" in done.stderr
