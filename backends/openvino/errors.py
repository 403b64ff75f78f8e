"""Why a model cannot be loaded, or a request not be run."""

from __future__ import annotations


class LoadError(ValueError):
    """The model cannot be served as its config says; the message says why."""


class RequestError(ValueError):
    """A request's tensors cannot be given to OpenVINO; the caller's fault."""


class InferenceError(RuntimeError):
    """OpenVINO failed on what it was given."""


def reason(error: Exception) -> str:
    """What an exception of OpenVINO says, in one line, without the places in its source that it passed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from src/"))
