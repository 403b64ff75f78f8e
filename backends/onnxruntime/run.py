"""One run of a session: arrays on the CPU in, arrays on the CPU out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from .batching import Array
from .graph import STRING, Graph
from .providers import CPU_PROVIDER

# (names of the outputs, inputs by name) -> the outputs, in the order of their names.
Run = Callable[[Sequence[str], Mapping[str, Array]], list[Any]]


def run_of(session: onnxruntime.InferenceSession, graph: Graph, options: onnxruntime.RunOptions) -> Run:
    """How ``session`` is run: bound where there is a device to copy to, and plainly on the CPU.

    On the CPU there is nothing to gain, and binding from Python costs 0.07 to 0.15 ms a run (median of 400 interleaved
    runs of three Identity nodes, 1 x 8 to 64 x 128 tokens, ONNX Runtime 1.31). Strings cannot be bound.
    """
    tensors = [*graph.inputs.values(), *graph.optional_inputs.values(), *graph.outputs.values()]
    on_device = session.get_providers() != [CPU_PROVIDER]
    if on_device and all(tensor.data_type != STRING for tensor in tensors):
        return bound(session, options)
    return plain(session, options)


def plain(session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions) -> Run:
    """ONNX Runtime's own call; it copies between devices by itself."""

    def run(names: Sequence[str], inputs: Mapping[str, Array]) -> list[Any]:
        return list(session.run(list(names), dict(inputs), options))

    return run


def bound(session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions) -> Run:
    """By I/O binding, as the C++ backend runs: inputs are copied to the device as they are bound.

    Every run has a binding of its own: shapes differ from run to run, and an output that stays bound keeps the shape of
    the run before.
    """

    def run(names: Sequence[str], inputs: Mapping[str, Array]) -> list[Any]:
        binding = session.io_binding()
        for name, array in inputs.items():
            # The binding reads the array's memory, and needs it in one piece; unlike ascontiguousarray, a scalar stays.
            binding.bind_cpu_input(name, np.asarray(array, order="C"))
        for name in names:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())

    return run
