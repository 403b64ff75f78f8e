"""The engines that serve a tensor model on a CPU, run in this process: a row of `ENGINES` each.

An engine is named as Triton names its backend (`contract.TENSOR_BACKENDS`). What is opened here runs with the
settings that `parameters` puts into config.pbtxt, so that the gates and the times of an export are those of the engine
that will serve the model. Which precisions an engine serves is a matter of the contract (`contract.ENGINES`); whether
this machine can run one is known here.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bert_triton_client import contract
from bert_triton_client.contract import LOGITS, ONNXRUNTIME, OPENVINO
from export.errors import EngineError
from export.evaluation import Classifier, Logits, Tensors, onnx_classifier

AUTO = "auto"
BF16 = "bf16"
# What OpenVINO's CPU plugin calls the property that Triton's backend sets with HINT_BF16.
PRECISION_PROPERTY = "INFERENCE_PRECISION_HINT"
# Parameters of Triton's backend that are no properties of OpenVINO.
BACKEND_ONLY = frozenset({"SKIP_OV_DYNAMIC_BATCHSIZE", "HINT_BF16"})


@dataclass(frozen=True)
class Engine:
    """One engine: a row of `ENGINES`.

    Attributes:
        package: the distribution it comes in; its module has the same name.
        open: makes a classifier of a graph; its arguments are those of `classifier`.
        parameters: `parameters` of config.pbtxt for a precision, threads of one instance, and instances.
    """

    package: str
    open: Callable[[Path | bytes, str, int, int], Classifier]
    parameters: Callable[[str, int, int], dict[str, str]]


def classifier(engine: str, model: Path | bytes, precision: str, threads: int, *, calls: int = 1) -> Classifier:
    """The graph ``model``, a file or its bytes, as a classifier that ``engine`` computes on the CPU.

    Args:
        engine: a key of `ENGINES`.
        model: an ONNX graph.
        precision: what the graph is served as; with ``bf16``, an FP32 graph is computed in BF16.
        threads: of one call.
        calls: how many threads will call it at a time (`evaluation.predict` with as many workers).

    Raises:
        EngineError: the engine is not installed, or cannot run the graph.
    """
    require_installed(engine)
    return ENGINES[engine].open(model, precision, threads, calls)


def parameters(engine: str, precision: str, threads: int, instances: int = 1) -> dict[str, str]:
    """`parameters` of config.pbtxt: ``threads`` for each of ``instances`` of a model, each computing by itself."""
    return ENGINES[engine].parameters(precision, threads, instances)


def candidates(precision: str, wanted: str = AUTO) -> tuple[str, ...]:
    """The engines to build ``precision`` for: the ``wanted`` one where it has that choice, else all there are.

    Raises:
        EngineError: this machine cannot run the precision, or has no engine for it.
    """
    if precision == BF16 and not supports_bf16():
        from export import processor

        raise EngineError(
            f"bf16 is not published: this CPU ({processor.name()}) does not compute in bfloat16, which OpenVINO would "
            "report as BF16 among OPTIMIZATION_CAPABILITIES; leave bf16 out, or export on a CPU with AMX or AVX512_BF16"
        )
    able = contract.ENGINES[precision]
    chosen = (wanted,) if wanted in able else able
    found = tuple(engine for engine in chosen if is_installed(engine))
    if not found:
        require_installed(chosen[0])
    return found


def default_precisions(wanted: str = AUTO) -> tuple[str, ...]:
    """The precisions that are exported unless asked otherwise: all, bf16 only where this CPU computes in it."""
    with_bf16 = wanted != ONNXRUNTIME and supports_bf16()
    return tuple(precision for precision in contract.PRECISIONS if precision != BF16 or with_bf16)


def supports_bf16() -> bool:
    """Whether OpenVINO is installed and computes in BF16 on this CPU by itself (it can imitate it on others)."""
    return is_installed(OPENVINO) and "BF16" in _capabilities()


def is_installed(engine: str) -> bool:
    """Whether the engine's package is there."""
    return importlib.util.find_spec(ENGINES[engine].package) is not None


def require_installed(engine: str) -> None:
    """Raises EngineError unless ``engine`` is installed."""
    if not is_installed(engine):
        package = ENGINES[engine].package
        other = next(name for name in ENGINES if name != engine)
        raise EngineError(
            f"the package {package} is not installed, so nothing can be exported for the engine {engine}: "
            f"pip install -c constraints.txt {package}, or choose --engine {other} and precisions that it serves"
        )


def version(engine: str) -> str:
    """The installed version of the engine."""
    return metadata.version(ENGINES[engine].package)


def _open_onnxruntime(model: Path | bytes, precision: str, threads: int, calls: int) -> Classifier:  # noqa: ARG001
    return onnx_classifier(model, threads)


def _open_openvino(model: Path | bytes, precision: str, threads: int, calls: int) -> Classifier:
    core = _core()
    properties: dict[str, str] = {
        key: value for key, value in _openvino_parameters(precision, threads, calls).items() if key not in BACKEND_ONLY
    }
    if precision == BF16:
        properties[PRECISION_PROPERTY] = "bf16"
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", properties)
    except RuntimeError as exc:
        raise EngineError(
            f"OpenVINO {version(OPENVINO)} cannot run the {precision} graph ({_cause(exc)}): export it "
            f"with --engine {ONNXRUNTIME}, or leave {precision} out"
        ) from exc
    names = [tensor.get_any_name() for tensor in compiled.inputs]
    # A request holds the memory of one call, so each thread has its own.
    own = threading.local()

    def classify(tensors: Tensors) -> Logits:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        own.request.infer({name: np.ascontiguousarray(tensors[name]) for name in names})
        return np.array(own.request.get_tensor(LOGITS).data, dtype=np.float32)

    return classify


def _cause(error: RuntimeError) -> str:
    """The telling one of the many lines that OpenVINO says."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")] or [""]
    return next((line for line in lines if line.startswith("No conversion rule")), lines[-1])


def _onnxruntime_parameters(precision: str, threads: int, instances: int) -> dict[str, str]:  # noqa: ARG001
    """Each instance is a session with a thread pool of its own."""
    return {"inter_op_thread_count": "1", "intra_op_thread_count": str(threads)}


def _openvino_parameters(precision: str, threads: int, instances: int) -> dict[str, str]:
    """All instances of Triton's C++ backend share one compiled model: a stream, with its share of threads, for each.

    The backend takes a graph whose batch size is free only with SKIP_OV_DYNAMIC_BATCHSIZE.
    """
    return {
        "INFERENCE_NUM_THREADS": str(threads * instances),
        "NUM_STREAMS": str(instances),
        "PERFORMANCE_HINT": "LATENCY",
        "SKIP_OV_DYNAMIC_BATCHSIZE": "YES",
        **({"HINT_BF16": "YES"} if precision == BF16 else {}),
    }


@functools.cache
def _core() -> Any:
    # Importing OpenVINO sends a message to a statistics service and writes to the home folder, unless the module that
    # does so cannot be imported; then it takes a stub of its own.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    # The first look at a tensor's numbers fills a table of types. In 2026.4 two threads that have it at once wait for
    # each other for ever, one with that table and one with Python's global lock: so nobody else has it.
    _ = openvino.Tensor(np.zeros(1, dtype=np.float32)).data
    return openvino.Core()


@functools.cache
def _capabilities() -> frozenset[str]:
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


ENGINES: dict[str, Engine] = {
    ONNXRUNTIME: Engine("onnxruntime", _open_onnxruntime, _onnxruntime_parameters),
    OPENVINO: Engine("openvino", _open_openvino, _openvino_parameters),
}
