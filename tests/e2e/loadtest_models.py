"""Models of known behaviour for load tests: one instance each, a request at a time."""

from __future__ import annotations

from pathlib import Path

from loadtest import target
from loadtest.access import Access
from loadtest.cell import CellSpec, TensorNames, Workload
from loadtest.target import Target
from server import TritonServer
from tests.e2e import triton

# Echoes after a time that depends on how many requests the model has had.
BACKEND = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    seen = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        self.seen += 1
        {behaviour}
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("LABEL", texts)])
"""
SERVICE_S = 0.02
LONG_SERVICE_S = 0.1  # against which the way to a busy machine's server and back is short
STALL_AT = 100
STALL_S = 1.0
FLAKY_ERROR = "pb_utils.InferenceResponse(error=pb_utils.TritonError('the fifth'))"
BEHAVIOURS = {
    "quick": "pass",
    "sleeper": f"time.sleep({SERVICE_S})",
    "slow_sleeper": f"time.sleep({LONG_SERVICE_S})",
    "swamped": f"time.sleep({SERVICE_S})",  # what nobody waits for any more stays in the server's queue for a while
    "stalls_once": f"time.sleep({STALL_S} if self.seen == {STALL_AT} else 0.001)",
    "stalls_once_too": f"time.sleep({STALL_S} if self.seen == {STALL_AT} else 0.001)",
    "silent": "time.sleep(30)",  # longer than a cell and its time-out
    "flaky": f"if self.seen % 5 == 0: return {FLAKY_ERROR}",
}


def write(folder: Path) -> tuple[Path, Path]:
    """Writes backends and a repository with a model of each behaviour; returns both folders."""
    for name, behaviour in BEHAVIOURS.items():
        triton.write_backend(folder / "backends", name, BACKEND.replace("{behaviour}", behaviour))
        triton.write_model(folder / "repository", name, backend=name)
    return folder / "backends", folder / "repository"


def cell(
    server: TritonServer, model: str, workload: Workload, *, protocol: str = "grpc", **values: object
) -> tuple[CellSpec, Target]:
    """A short cell of a model; it takes longer where ``min_requests`` do."""
    url = server.grpc_url if protocol == "grpc" else server.http_url
    usual: dict[str, object] = {
        "warm_up_s": 0.3,
        "duration_s": 1.0,
        "max_duration_s": 30.0,
        "min_requests": 1,
        "timeout_s": 20.0,
    }
    spec = CellSpec("cell", "test", url, model, workload=workload, **{**usual, **values})  # type: ignore[arg-type]
    return spec, target.inspect(url, model, names=TensorNames(), access=Access())
