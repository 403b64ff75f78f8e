"""`python -m demo serve`: starts ``python -m server``, asks it with ``bert-triton``, shows the answers, keeps serving.

Exactly the two commands of the README, one after the other, with Triton's log in a file.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

MODEL = "sentiment"
TEXTS = (
    "I love this movie",
    "Dull, predictable and far too long.",
    "The cast is wonderful, but the story never comes to life.",
    "Funny, warm and very well played.",
)
LOG_FILE = Path("build/server.log")
STOP_TIMEOUT_S = 60.0


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo serve",
        description="Serve model_repository/, ask it, keep serving. Other flags go to `python -m server`.",
        allow_abbrev=False,
    )
    parser.add_argument("--stop-after-answers", action="store_true", help="end once the answers are shown")
    parser.add_argument("--log", type=Path, default=LOG_FILE, help="Triton's log (default: %(default)s)")
    options, server_flags = parser.parse_known_args(argv)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        options.log.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "server", *server_flags], stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        try:
            return _serve(server, options.log, stop_after_answers=options.stop_after_answers)
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)


def _serve(server: subprocess.Popen[str], log: Path, *, stop_after_answers: bool) -> int:
    started = time.monotonic()
    ready = server.stdout.readline().strip() if server.stdout else ""
    url = re.search(r"grpc://[^\s,;]+", ready)
    if url is None:
        server.wait()
        print(_reason(log), file=sys.stderr)
        return server.returncode or 1
    print(f"serving after {time.monotonic() - started:.1f} s: {ready.split('; next: ')[0]}")
    print(f"Triton's log: {log}\n")
    ask = ["bert-triton", "classify", *TEXTS, "--model", MODEL]
    print("$ " + " ".join(f'"{word}"' if " " in word else word for word in ask), flush=True)
    answered = subprocess.run(
        [sys.executable, "-m", "bert_triton_client", *ask[1:], "--url", url.group()], check=False
    ).returncode
    if answered != 0 or stop_after_answers:
        return answered
    print("\nserving until Ctrl-C", flush=True)
    return server.wait()


def _stop(server: subprocess.Popen[str]) -> None:
    """Ends the server, which drains; kills it if it does not end."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _reason(log: Path) -> str:
    """The server's own last word in its log, or the end of it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line for line in lines if line.startswith("server: ")]
    return own[-1] if own else "\n".join(lines[-10:])
