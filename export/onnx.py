"""Turns a checkpoint into an ONNX file, or takes in one that exists.

Either way the result has the tensor names and types of `bert_triton_client.contract`, dynamic batch size and
sequence length, and an operator set and IR version that the oldest supported ONNX Runtime loads. Fusing is
`export.fuse`'s work.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import ATTENTION_MASK, INPUT_IDS, LOGITS, TENSOR_INPUTS, TOKEN_TYPE_IDS
from export.checkpoint import Checkpoint
from export.errors import CheckpointError

OPSET = 17
# What ONNX Runtime 1.19.2, the one in NVIDIA's container 24.10, loads
# (https://onnxruntime.ai/docs/reference/compatibility.html: ONNX 1.16).
MIN_OPSET = 13  # the first in which what `export.quantize` writes has its present form
MAX_OPSET = 21
MAX_IR_VERSION = 10
# Names that other exporters give to the same tensors.
ALIASES: dict[str, tuple[str, ...]] = {
    INPUT_IDS: ("input_ids", "input_ids:0", "ids", "input.1"),
    ATTENTION_MASK: ("attention_mask", "attention_mask:0", "input_mask", "mask"),
    TOKEN_TYPE_IDS: ("token_type_ids", "token_type_ids:0", "segment_ids", "type_ids"),
    LOGITS: ("logits", "output", "output_0", "scores"),
}
QUANTIZED_OPERATORS = frozenset(
    {
        "MatMulInteger",
        "QAttention",
        "QGemm",
        "QLinearMatMul",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLinear",
        "DequantizeLinear",
        "MatMulIntegerToFloat",
        "QEmbedLayerNormalization",
    }
)


def export(checkpoint: Checkpoint, target: Path) -> None:
    """Writes ``checkpoint`` to ``target`` with optimum's configuration of its architecture.

    Raises:
        CheckpointError: the exported graph does not take the inputs that the checkpoint's architecture has.
    """
    from optimum.exporters.onnx import export as export_with_optimum
    from optimum.exporters.tasks import TasksManager

    config_class = TasksManager.get_exporter_config_constructor(
        "onnx", model=checkpoint.model, task="text-classification", library_name="transformers"
    )
    with warnings.catch_warnings(), _fusable_attention(checkpoint.model):
        warnings.simplefilter("ignore")  # the tracer's remarks about code in transformers
        inputs, _ = export_with_optimum(checkpoint.model, config_class(checkpoint.config), target, opset=OPSET)
    if set(checkpoint.inputs) != set(inputs):
        raise CheckpointError(
            f"the exported graph of {checkpoint.origin.name} takes {', '.join(inputs)}; "
            f"expected {', '.join(checkpoint.inputs)}"
        )


@dataclass(frozen=True)
class GivenGraph:
    """An ONNX file that was taken in: checked, and with this system's tensor names."""

    model: Any
    inputs: tuple[str, ...]

    def write(self, target: Path) -> None:
        """Writes it to ``target``."""
        import onnx

        onnx.save(self.model, target)


def read(source: Path, num_labels: int) -> GivenGraph:
    """Takes in the ONNX file ``source``, an FP32 sequence classifier with ``num_labels`` labels.

    Raises:
        CheckpointError: it cannot be read, is too old or too new, is quantised or has other inputs and outputs.
    """
    model = _read(source)
    inputs = _check_inputs(model, source)
    _check_output(model, source, num_labels)
    found = {node.op_type for node in model.graph.node} & QUANTIZED_OPERATORS
    if found:
        raise CheckpointError(f"{source} is quantised already ({', '.join(sorted(found))}); take in the FP32 model")
    return GivenGraph(model, inputs)


def _read(source: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(source)
        _check_versions(model, source)
        onnx.checker.check_model(model)
    except FileNotFoundError as exc:
        raise CheckpointError(f"no ONNX file {exc.filename or source}") from exc
    except (OSError, DecodeError, onnx.checker.ValidationError) as exc:
        raise CheckpointError(f"{source} is not a whole ONNX model: {str(exc).strip().splitlines()[0]}") from exc
    if not model.graph.node:
        raise CheckpointError(f"{source} is not an ONNX model: its graph is empty")
    return model


def _check_versions(model: Any, source: Path) -> None:
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if not MIN_OPSET <= opset <= MAX_OPSET or model.ir_version > MAX_IR_VERSION:
        raise CheckpointError(
            f"{source} has opset {opset} and IR version {model.ir_version}; expected opset {MIN_OPSET} to {MAX_OPSET} "
            f"and IR version {MAX_IR_VERSION} or lower, which ONNX Runtime 1.19 loads: export it with opset {OPSET}"
        )


def _check_inputs(model: Any, source: Path) -> tuple[str, ...]:
    from onnx import TensorProto

    weights = {initializer.name for initializer in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in weights]
    names = {value.name: canonical for value in real if (canonical := _canonical(value.name, TENSOR_INPUTS))}
    inputs = tuple(name for name in TENSOR_INPUTS if name in names.values())
    if len(names) != len(real) or inputs[:2] != TENSOR_INPUTS[:2] or len(set(names.values())) != len(names):
        raise CheckpointError(
            f"{source} takes {', '.join(value.name for value in real) or 'nothing'}; expected {INPUT_IDS}, "
            f"{ATTENTION_MASK} and optionally {TOKEN_TYPE_IDS}"
        )
    for value in real:
        tensor = value.type.tensor_type
        fixed = [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
        if tensor.elem_type != TensorProto.INT64 or len(tensor.shape.dim) != 2 or fixed:
            raise CheckpointError(
                f"input {value.name} of {source} is {_describe(value)}; expected INT64 [batch_size, "
                "sequence_length], both free: export it with dynamic axes"
            )
    for old, new in names.items():
        _rename(model, old, new)
    return inputs


def _check_output(model: Any, source: Path, num_labels: int) -> None:
    from onnx import TensorProto

    outputs = list(model.graph.output)
    logits = [value for value in outputs if _canonical(value.name, (LOGITS,))]
    if len(logits) != 1 or len(outputs) != 1:
        raise CheckpointError(
            f"{source} puts out {', '.join(value.name for value in outputs)}; expected {LOGITS} alone"
        )
    dims = logits[0].type.tensor_type.shape.dim
    if logits[0].type.tensor_type.elem_type != TensorProto.FLOAT or len(dims) != 2:
        raise CheckpointError(
            f"output {logits[0].name} of {source} is {_describe(logits[0])}; expected FLOAT [batch_size, labels]"
        )
    if dims[1].dim_value not in (0, num_labels):
        raise CheckpointError(
            f"{source} puts out {dims[1].dim_value} logits, but there are names for {num_labels} labels"
        )
    _rename(model, logits[0].name, LOGITS)


def _canonical(name: str, candidates: tuple[str, ...]) -> str | None:
    return next((candidate for candidate in candidates if name.lower() in ALIASES[candidate]), None)


def _rename(model: Any, old: str, new: str) -> None:
    if old == new:
        return
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _describe(value: Any) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    return f"{TensorProto.DataType.Name(tensor.elem_type)} [{', '.join(dims)}]"


@contextmanager
def _fusable_attention(model: Any) -> Iterator[None]:
    """Lets DistilBERT mask its attention the way BERT does, while it is exported.

    DistilBERT (transformers 4.57) overwrites masked scores through a reshaped and expanded copy of the mask, which ONNX
    Runtime's optimiser no longer recognises. Adding the lowest finite number gives the same probabilities and fuses.
    """
    from transformers.models.distilbert.modeling_distilbert import MultiHeadSelfAttention

    patched = [module for module in model.modules() if type(module) is MultiHeadSelfAttention]
    for module in patched:
        setattr(module, "forward", types.MethodType(_additive_mask_attention, module))  # noqa: B010 - mypy forbids the plain form
    try:
        yield
    finally:
        for module in patched:
            del module.forward


def _additive_mask_attention(self: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> tuple[Any, ...]:
    import torch

    batch_size, length, _ = query.size()
    head_size = self.dim // self.n_heads

    def by_head(states: Any) -> Any:
        return states.view(batch_size, length, self.n_heads, head_size).transpose(1, 2)

    scores = torch.matmul(by_head(self.q_lin(query)), by_head(self.k_lin(key)).transpose(-1, -2)) / head_size**0.5
    masked = (1.0 - mask[:, None, None, :].to(scores.dtype)) * torch.finfo(scores.dtype).min
    weights = torch.softmax(scores + masked, dim=-1)
    context = torch.matmul(weights, by_head(self.v_lin(value))).transpose(1, 2)
    return (self.out_lin(context.reshape(batch_size, length, self.dim)),)
