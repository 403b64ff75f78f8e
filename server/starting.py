"""Waits until a Triton that was just started answers, or says in one error why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

from server import log, readiness
from server.endpoints import Endpoints
from server.errors import ModelError, StartCancelledError, StartError
from server.process import TritonProcess

POLL_S = 0.05


def until_ready(
    process: TritonProcess,
    check: Callable[[float], list[readiness.ModelState]],
    endpoints: Endpoints,
    *,
    deadline: float,
    canary_timeout_s: float,
    cancelled: Callable[[], bool],
) -> list[readiness.ModelState]:
    """The models' states once ``check`` finds nothing to object to.

    Args:
        process: the Triton.
        check: asks it, within so many seconds; raises `readiness.NotReady`.
        endpoints: for messages.
        deadline: on `time.monotonic`'s clock.
        canary_timeout_s: how long a text model that is loaded may fail to answer.
        cancelled: asked while waiting; True ends that.

    Raises:
        ServerError: as `server.launcher.TritonServer.start`.
    """
    reason = "it was given no time"
    silent_since: float | None = None  # when a text model was first asked in vain
    while (left_s := deadline - time.monotonic()) > 0:
        if cancelled():
            raise StartCancelledError("asked to stop while Triton was starting")
        if process.returncode is not None:
            process.log.join()
            raise log.failure(process.log.lines(), process.returncode, endpoints)
        try:
            return check(min(canary_timeout_s, left_s))
        except readiness.NotReady as exc:
            reason = str(exc)
            if isinstance(exc, readiness.CanaryFailed):
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > canary_timeout_s:
                    raise ModelError(reason, process.log.tail()) from exc
            time.sleep(POLL_S)
    raise StartError(f"Triton is not ready in time: {reason}", process.log.tail())
