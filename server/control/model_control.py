"""Has a running Triton load and unload models, through its gRPC port.

Not through HTTP: there a load holds one of Triton's eight HTTP threads until it ends, and every connection of that
thread waits with it (2 s for a tiny model, seen with 2.51).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from server.control import grpc_call
from server.errors import ChangeError

SERVICE = "/inference.GRPCInferenceService/"
MODEL_NAME_FIELD = 2  # of RepositoryModelLoadRequest and RepositoryModelUnloadRequest


class ModelControl:
    """Loads and unloads.

    Args:
        address: host and port of Triton's gRPC service.
        headers: for its restricted APIs.
        explain: why Triton just refused a model, in its words.
        interrupted: asked while Triton works; True gives up.
    """

    def __init__(
        self,
        address: tuple[str, int],
        headers: Mapping[str, str],
        *,
        explain: Callable[[str], str],
        interrupted: Callable[[], bool],
    ) -> None:
        self._address = address
        self._headers = headers
        self._explain = explain
        self._interrupted = interrupted

    def load(self, model: str, timeout_s: float) -> None:
        """Loads what the repository now shows of a model, and lets go what it no longer shows.

        What is served already goes on until the new versions are ready, and if they cannot be loaded.

        Raises:
            ChangeError: Triton refuses, or does not end in time.
        """
        self._call("RepositoryModelLoad", model, timeout_s)

    def unload(self, model: str, timeout_s: float) -> None:
        """Lets go of a model; raises as `load`."""
        self._call("RepositoryModelUnload", model, timeout_s)

    def _call(self, method: str, model: str, timeout_s: float) -> None:
        try:
            done = grpc_call.succeeds(
                self._address,
                SERVICE + method,
                _string_field(MODEL_NAME_FIELD, model),
                self._headers,
                timeout_s=timeout_s,
                interrupted=self._interrupted,
            )
        except OSError as exc:
            raise ChangeError(f"model {model} was not changed: {exc}") from exc
        if not done:
            raise ChangeError(f"Triton refused model {model}: {self._explain(model)}")


def _string_field(number: int, value: str) -> bytes:
    """One string field of a protobuf message."""
    encoded, length = value.encode(), b""
    size = len(encoded)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + encoded
