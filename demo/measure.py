"""`python -m demo tables`: ``python -m loadtest tables`` on a ``python -m server`` that it starts for that.

Exactly these two commands, one after the other, with Triton's log in a file. Every exported tensor model is compared,
so a row of the tables fills itself once such a model is exported. On Triton's own ports if they are free, so that a run
that was broken off can go on (its cells are of that URL); else on any that are.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from bert_triton_client.contract import GRPC_PORT, HTTP_PORT, METRICS_PORT, MODEL_FILE
from demo.build import DEFAULT_OUTPUT
from demo.errors import DemoError
from demo.serve import MODEL
from demo.server_process import LOG_FILE, NotServingError, ServerProcess, serving
from server.endpoints import Endpoints
from server.errors import ServerError

REPOSITORY = Path("model_repository")
EVAL_DATA = DEFAULT_OUTPUT / "test.csv"
FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo tables",
        description="Measure the demo model: tables T1 to T5. Other flags go to `python -m loadtest tables`.",
        allow_abbrev=False,
    )
    parser.add_argument("--log", type=Path, default=LOG_FILE, help="Triton's log (default: %(default)s)")
    options, loadtest_flags = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        models = exported_models(REPOSITORY)
        _check_sentences(EVAL_DATA)
        with serving(["--skip-unexported", *ports()], options.log, own_group=True) as server:
            return _measure(tables_command(server, models, loadtest_flags))
    except NotServingError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    except DemoError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except KeyboardInterrupt:
        return 1


def exported_models(repository: Path) -> list[str]:
    """The tensor models with an exported version, in alphabetical order, the demo's own first.

    Raises:
        DemoError: there are none.
    """
    names = sorted({file.parent.parent.name for file in repository.glob(f"*/[0-9]*/{MODEL_FILE}")})
    if not names:
        raise DemoError(f"no exported model in {repository}: run `make demo` first")
    return sorted(names, key=lambda name: not name.startswith(f"{MODEL}_"))


def _check_sentences(path: Path) -> None:
    if not path.is_file():
        raise DemoError(f"no {path}, the labelled sentences: run `make demo` first")


def ports() -> tuple[str, ...]:
    """The server's flags for its ports: none, which means Triton's own, if those are free."""
    try:
        Endpoints("127.0.0.1", HTTP_PORT, GRPC_PORT, METRICS_PORT).resolved()
    except ServerError:
        return FREE_PORTS
    return ()


def tables_command(server: ServerProcess, models: list[str], flags: list[str]) -> list[str]:
    """``python -m loadtest tables`` on ``server``; ``flags`` come last, so that they have the last word."""
    command = [sys.executable, "-m", "loadtest", "tables", "--url", server.url("grpc")]
    command += ["--http-url", server.url("http"), "--metrics-url", server.url("metrics")]
    command += ["--model", MODEL, "--models", *models]
    return [*command, "--eval-data", str(EVAL_DATA), "--repository", str(REPOSITORY), *flags]


def _measure(command: list[str]) -> int:
    """Runs ``command`` to its end. Ctrl-C reaches it too: it keeps and reports what was measured, and is waited for."""
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            return process.wait()
        finally:
            if process.poll() is None:  # this command is being ended: have the measuring end as by Ctrl-C
                process.terminate()
