"""Starts the Triton that pip installs on a model repository, and keeps it running.

``TritonServer`` is one tritonserver process with its ports, its log and its files in /dev/shm::

    with TritonServer("model_repository") as server:
        print(server.http_url)

``python -m server`` adds the command line, the watchdog and the checks of the model repository. Nothing here
imitates Triton: the binary is NVIDIA's own.
"""

from typing import TYPE_CHECKING, Any

from server.errors import ServerError

if TYPE_CHECKING:
    from server.launcher import TritonServer

__all__ = ["ServerError", "TritonServer"]


def __getattr__(name: str) -> Any:
    # On first use: `python -m server` must be able to say that a package is missing.
    if name == "TritonServer":
        from server.launcher import TritonServer

        return TritonServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
