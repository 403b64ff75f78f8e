"""The model repositories that the rows serve or run: exported on first use, all from the workload's checkpoint."""

from __future__ import annotations

import enum
from pathlib import Path

from bench.compare.contestant import Unavailable, Workload
from bench.load import has_bf16
from bench.models import ModelError, exported


class Kind(enum.Enum):
    """Which export."""

    FP32 = "fp32"
    INT8 = "int8"
    BEST = "best"
    PADDED = "padded"


def repository_of(workload: Workload, kind: Kind) -> Path:
    """The repository of the workload's model.

    Raises:
        Unavailable: it cannot be exported.
    """
    try:
        match kind:
            case Kind.FP32:
                return exported(workload.model, ("fp32",), engine="onnxruntime", serve="fp32")
            case Kind.INT8:
                return exported(workload.model, ("int8",), engine="onnxruntime", serve="int8")
            case Kind.PADDED:
                return exported(workload.model, ("fp32", "int8"), engine="onnxruntime", packing=False, serve="fp32")
            case Kind.BEST:
                bf16 = ("bf16",) if has_bf16() else ()
                return exported(workload.model, ("fp32", *bf16, "int8"))
    except ModelError as exc:
        raise Unavailable(str(exc)) from exc
