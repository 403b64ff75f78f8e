"""Starts the Triton that pip installs on a model repository, and keeps it running.

``TritonServer`` is one tritonserver process with its ports, its log and its files in /dev/shm::

    with TritonServer("model_repository") as server:
        print(server.http_url)

``python -m server`` adds the command line, the watchdog and the checks of the model repository. Nothing here
imitates Triton: the binary is NVIDIA's own. Where to read on:

==============  ========================================================================================================
a start         ``command`` wires it: ``options``; what to serve (``preflight``, ``selection`` with ``model_config``,
                ``manifest``); ``launcher``, which starts one Triton: ``installation``, ``workspace``
                (``shared_memory``, ``backend_directory``, ``guard``), ``process`` (``limits``, ``argv``, ``log``), and
                ``starting``, which waits until ``readiness`` has its answers
while it runs   ``watchdog`` notices what died, with ``hangs`` what hangs, restarts, takes signals and orders
an order        ``control`` (a package): ``reload``, ``rollback``, ``versions``
a stop          ``watchdog``, ``drain``
what is closed  ``restrictions``, ``endpoints``; ``tracing`` says where traces go
==============  ========================================================================================================
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
