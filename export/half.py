"""FP16: half-precision weights and matrix products, for GPUs.

Inputs and outputs stay what they are in FP32. What can overflow in FP16 (largest number 65,504) or loses too much in it
stays FP32: LayerNormalization in all its fused forms squares its input, so a sum over the hidden size of activations
around 100, which BERTs do have, is beyond the range; softmax exponentiates. The embeddings and their sum, which the
first LayerNormalization scales up, stay FP32 too: part of its fused form in most architectures, Gather and Add in
RoBERTa. Inside the fused Attention, ONNX Runtime's GPU kernels scale the scores before they are rounded to FP16 and
compute the softmax in FP32 by themselves.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np

from export.errors import QualityError

KEPT_IN_FP32 = ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "Softmax", "Gather", "Add")
LARGEST = float(np.finfo(np.float16).max)


def convert(source: Path, target: Path) -> None:
    """Writes the FP16 form of the fused FP32 model ``source`` to ``target``.

    Raises:
        QualityError: a weight is out of FP16's range, so that it would be cut off.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(source)
    check_range(model)
    blocked = [*DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that round to zero; `check_range` looked for the harmful ones
        logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
        half = OnnxModel(model)
        # Its own shape inference knows ONNX Runtime's fused operators; onnx's does not, and would lose their types.
        half.convert_float_to_float16(use_symbolic_shape_infer=True, keep_io_types=True, op_block_list=blocked)
    onnx.save(half.model, target)


def check_range(model: object) -> None:
    """Raises QualityError when a weight matrix or bias of ``model`` holds a number that FP16 cannot.

    Scalars are left out: the constants that mask attention are as large as FP32 goes, and may be cut off.
    """
    from onnx import TensorProto, numpy_helper

    for initializer in model.graph.initializer:  # type: ignore[attr-defined]
        if initializer.data_type != TensorProto.FLOAT or not initializer.dims:
            continue
        largest = float(np.abs(numpy_helper.to_array(initializer)).max(initial=0.0))
        if not largest <= LARGEST:
            raise QualityError(
                f"fp16 is not published: {initializer.name} holds {largest:.4g}, FP16 ends at {LARGEST:.0f}; "
                "leave fp16 out"
            )
