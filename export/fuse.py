"""Fuses an exported graph with ONNX Runtime's transformer optimiser, and counts what was fused.

Attention, SkipLayerNormalization and BiasGelu are most of a BERT's speed, and an upgrade of PyTorch,
transformers or ONNX Runtime can silently stop a pattern from matching. So a graph without them is an error here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from export.errors import FusionError

# In the order in which they are reported. The quantised forms are ONNX Runtime's names for the same thing.
FUSED_OPERATORS: dict[str, tuple[str, ...]] = {
    "Attention": ("Attention", "QAttention", "MultiHeadAttention"),
    "SkipLayerNormalization": ("SkipLayerNormalization",),
    "BiasGelu": ("BiasGelu",),
    "EmbedLayerNormalization": ("EmbedLayerNormalization", "QEmbedLayerNormalization"),
}
# RoBERTa counts positions from the padding mask, which no EmbedLayerNormalization kernel does, and a BERT with
# another activation than GELU has no BiasGelu: those two are reported, not demanded.
REQUIRED = ("Attention", "SkipLayerNormalization")
CONTRIB_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Shape:
    """What the optimiser must know of a model; 0 lets it find out."""

    num_heads: int = 0
    hidden_size: int = 0


def fuse(source: Path, target: Path, shape: Shape) -> dict[str, int]:
    """Writes the fused form of ``source`` to ``target``.

    Returns:
        How many nodes of each of `FUSED_OPERATORS` the result has; `check` judges them.
    """
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    disable_telemetry()
    fused = count_fused(node_counts(onnx.load(source, load_external_data=False)))
    if all(fused[name] for name in REQUIRED):  # an ONNX file that was fused before it came here
        onnx.save(onnx.load(source), target)
        return fused
    options = FusionOptions("bert")
    # The 1-D mask (a length per text) is faster on GPUs only, and silently wrong for any mask that is not padding
    # on the right, which a caller of the tensor model may well send.
    options.use_raw_attention_mask(True)
    result = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=shape.num_heads,
        hidden_size=shape.hidden_size,
        optimization_options=options,
        opt_level=1,
    )
    drop_unused_opsets(result.model)
    result.save_model_to_file(str(target))
    return count_fused(node_counts(result.model))


def check(fused: dict[str, int]) -> None:
    """Raises FusionError when one of `REQUIRED` is absent from the counts in ``fused``."""
    import onnxruntime

    absent = [name for name in REQUIRED if not fused[name]]
    if absent:
        raise FusionError(
            f"gate fusion: 0 {' and 0 '.join(absent)} nodes after fusing, expected at least 1 of each; "
            f"ONNX Runtime {onnxruntime.__version__} did not recognise the exported graph (a library upgrade, or not a "
            "BERT): install the versions in constraints.txt, or serve it unfused with --allow fusion"
        )


def node_counts(model: object) -> Counter[str]:
    """How many nodes of each operator type the graph of ``model`` has."""
    return Counter(node.op_type for node in model.graph.node)  # type: ignore[attr-defined]


def count_fused(nodes: Counter[str]) -> dict[str, int]:
    """How many nodes of each of `FUSED_OPERATORS` are among ``nodes``."""
    return {name: sum(nodes[operator] for operator in operators) for name, operators in FUSED_OPERATORS.items()}


def drop_unused_opsets(model: object) -> None:
    """Removes the operator sets that no node uses: a runtime may refuse ones it does not know."""
    used = {node.domain for node in model.graph.node}  # type: ignore[attr-defined]
    kept = [entry for entry in model.opset_import if entry.domain in used | {""}]  # type: ignore[attr-defined]
    del model.opset_import[:]  # type: ignore[attr-defined]
    model.opset_import.extend(kept)  # type: ignore[attr-defined]


def disable_telemetry() -> None:
    """Keeps ONNX Runtime's telemetry messages out of the output."""
    import onnxruntime

    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
