"""For Locust's own command line and web interface: ``locust -f loadtest/locustfile.py --host grpc://localhost:8001``.

Two user classes, `GrpcUser` and `HttpUser`; those take part whose protocol ``--host`` (or ``--grpc-url`` and
``--http-url``) names. The options of `loadtest.generator.interactive` join Locust's own. For tables use
``python -m loadtest``, which counts on raw samples, discards a warm-up and reads the server's counters.
"""

from __future__ import annotations

import sys
from pathlib import Path

from locust import events

# Locust puts this folder on the path while it reads this file: its modules would stand in for the standard library's.
_ROOT, _FOLDER = (str(Path(__file__).resolve().parents[up]) for up in (1, 0))
sys.path[:] = [_ROOT if entry == _FOLDER else entry for entry in sys.path]
sys.path.append(_ROOT)

from loadtest.generator import interactive  # noqa: E402
from loadtest.generator.users import GrpcUser, HttpUser  # noqa: E402

__all__ = ["GrpcUser", "HttpUser"]

interactive.install(events)
