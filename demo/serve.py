"""`python -m demo serve`: starts ``python -m server``, asks it with ``bert-triton``, shows the answers, keeps serving.

Exactly the two commands of the README, one after the other, with Triton's log in a file.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from demo.server_process import LOG_FILE, NotServingError, ServerProcess, serving

MODEL = "sentiment"
TEXTS = (
    "I love this movie",
    "Dull, predictable and far too long.",
    "The cast is wonderful, but the story never comes to life.",
    "Funny, warm and very well played.",
)


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with serving(server_flags, options.log) as server:
            return _serve(server, options.log, stop_after_answers=options.stop_after_answers)
    except NotServingError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        return 0


def _serve(server: ServerProcess, log: Path, *, stop_after_answers: bool) -> int:
    print(f"serving after {server.started_s:.1f} s: {server.ready.split('; next: ')[0]}")
    print(f"Triton's log: {log}\n")
    ask = ["bert-triton", "classify", *TEXTS, "--model", MODEL]
    print("$ " + " ".join(f'"{word}"' if " " in word else word for word in ask), flush=True)
    answered = subprocess.run(
        [sys.executable, "-m", "bert_triton_client", *ask[1:], "--url", server.url("grpc")], check=False
    ).returncode
    if answered != 0 or stop_after_answers:
        return answered
    print("\nserving until Ctrl-C", flush=True)
    return server.process.wait()
