"""Why a model cannot be loaded, or a request not be run."""

from __future__ import annotations


class LoadError(ValueError):
    """The model cannot be served as its config says; the message says why."""


class RequestError(ValueError):
    """A request's tensors cannot be given to ONNX Runtime; the caller's fault."""
