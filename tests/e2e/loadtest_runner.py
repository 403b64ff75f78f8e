"""``python -m loadtest``: in this process, or in one of its own where signals, exit and environment are the point."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from unittest import mock

from bert_triton_client import Client
from loadtest.__main__ import main
from server import TritonServer
from tests.conftest import REPOSITORY_ROOT

URL_VARIABLE = "BERT_TRITON_URL"
TIMEOUT_S = 280.0  # a little less than pytest gives a test, so that what was printed is shown

Done = subprocess.CompletedProcess[str]


def here(*words: str) -> Done:
    """Runs a command line in this process: one of its own takes a second to start. The load has its own in any case."""
    out, err = io.StringIO(), io.StringIO()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(REPOSITORY_ROOT),
        mock.patch.dict(os.environ),
    ):
        os.environ.pop(URL_VARIABLE, None)
        try:
            code = main(words)
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
    return subprocess.CompletedProcess(command(*words), code, out.getvalue(), err.getvalue())


def apart(*words: str, **environment: str) -> Done:
    """Runs a command line in a process of its own."""
    return subprocess.run(
        command(*words),
        cwd=REPOSITORY_ROOT,
        env={**without_url(), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def command(*words: str) -> list[str]:
    """The words that start it."""
    return [sys.executable, "-m", "loadtest", *words]


def without_url() -> dict[str, str]:
    """This environment without the variable that names a server."""
    return {name: value for name, value in os.environ.items() if name != URL_VARIABLE}


def asked(server: TritonServer, model: str) -> int:
    """How many requests a model has had since its server started."""
    with Client(server.grpc_url) as client:
        return sum(one.requests + one.failures for one in client.statistics(model))
