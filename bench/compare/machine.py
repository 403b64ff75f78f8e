"""What this machine multiplies at most, and how much of that a model needs: ``python -m`` this module prints the rates.

The rate is that of one matrix product of `SIDE` cubed on all cores, the best of a few, by PyTorch (oneDNN) and for INT8
also by OpenVINO. In a process of its own, so that its threads are gone while others are measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import has_bf16

SIDE = 2048
_TIME_S = 0.5


@dataclass(frozen=True)
class Rates:
    """Operations a second, a multiplication and an addition being two, in 10^9; None = the CPU has no such product."""

    fp32: float
    bf16: float | None
    int8: float

    def of(self, precision: str) -> float | None:
        """The rate for a model in ``fp32``, ``bf16`` or ``int8``."""
        rates: dict[str, float | None] = {"fp32": self.fp32, "bf16": self.bf16, "int8": self.int8}
        return rates[precision]


def measured() -> Rates:
    """Measures, in another process."""
    command = [sys.executable, "-m", "bench.compare.machine"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Rates(**json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Arithmetic:
    """What a model computes for a text.

    Attributes:
        layers: of the encoder.
        hidden: width.
        intermediate: width inside the feed-forward network.
    """

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def of(cls, checkpoint: Path) -> Arithmetic:
        """From its config.json."""
        config: Mapping[str, Any] = json.loads((checkpoint / "config.json").read_text())
        return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])

    def operations(self, tokens: Iterable[int]) -> float:
        """Of the encoder for texts of these lengths, a multiplication and an addition being two.

        The matrices: 4 of hidden x hidden and 2 of hidden x intermediate in a layer, each used for every token, so
        2 x parameters x tokens. Attention: scores and weighted sums, 2 x 2 x tokens^2 x hidden in a layer. What is not
        a matrix product (softmax, normalisation, GELU) is left out.
        """
        matrices = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return float(self.layers * sum(2 * matrices * count + 4 * count**2 * self.hidden for count in tokens))


def _rate(multiply: Callable[[], object]) -> float:
    for _ in range(2):
        multiply()
    shortest = float("inf")
    until = time.perf_counter() + _TIME_S
    while time.perf_counter() < until:
        started = time.perf_counter()
        multiply()
        shortest = min(shortest, time.perf_counter() - started)
    return 2 * SIDE**3 / shortest / 1e9


def _measure() -> Rates:
    import torch

    square = (SIDE, SIDE)
    left, right = torch.randn(square), torch.randn(square)
    left16, right16 = left.bfloat16(), right.bfloat16()
    bf16 = _rate(lambda: torch.mm(left16, right16)) if has_bf16() else None
    left8, right8 = (torch.randint(-127, 127, square, dtype=torch.int8) for _ in range(2))
    int8 = max(_rate(lambda: torch._int_mm(left8, right8)), _openvino_int8())
    return Rates(_rate(lambda: torch.mm(left, right)), bf16, int8)


def _openvino_int8() -> float:
    """The product of a quantised model's layer: FP32 in and out, 8-bit inside."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from backends.openvino.runtime import openvino

    weights = np.random.default_rng(0).integers(-127, 127, (SIDE, SIDE)).astype(np.int8)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "weights": weights,
        "weights_scale": np.float32(0.01),
        "weights_zero": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["left"]),
        helper.make_node("DequantizeLinear", ["weights", "weights_scale", "weights_zero"], ["right"]),
        helper.make_node("MatMul", ["left", "right"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    core = openvino.Core()
    request = core.compile_model(core.read_model(model.SerializeToString()), "CPU").create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ones((SIDE, SIDE), dtype=np.float32)))
    return _rate(request.infer)


if __name__ == "__main__":
    print(json.dumps(_measure().__dict__))
