"""What every part of the system agrees on: tasks, precisions, names and ports.

Standard library only. ``export`` writes these names into ``config.pbtxt``, the client reads them
from the server; the code inside Triton cannot import this module and reads the same names from its
model's config (an integration test holds the two together).
"""

from __future__ import annotations

from dataclasses import dataclass

# --- Ports: Triton's own defaults -----------------------------------------------------------------
HTTP_PORT = 8000
GRPC_PORT = 8001
METRICS_PORT = 8002

# --- Backends, as `backend:` in config.pbtxt names them -------------------------------------------
TEXT_BACKEND = "bert_text"
TENSOR_BACKEND = "onnxruntime"

# --- Tensors of the tensor models: Hugging Face's names -------------------------------------------
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"
TENSOR_INPUTS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
LOGITS = "logits"

# --- Tensors of the text models -------------------------------------------------------------------
TEXT = "TEXT"
LABEL = "LABEL"
SCORE = "SCORE"
PROBABILITIES = "PROBABILITIES"

# A dimension that export replaces by the number of labels of the checkpoint.
NUM_LABELS = "num_labels"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a text model.

    ``dims`` leaves out the batch dimension, as config.pbtxt does; ``NUM_LABELS`` stands for the
    number of labels of the checkpoint.
    """

    name: str
    datatype: str  # KServe v2 / Triton: BYTES, FP32, ...
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Task:
    """One task: a row of `TASKS`.

    Attributes:
        name: Hugging Face's task name.
        auto_class: the transformers class that loads a checkpoint of this task.
        inputs: tensors a text model of this task takes.
        outputs: tensors it answers with.
        tensor_output: the output of the tensor model behind it.
        tensor_output_dims: dims of that output without the batch dimension.
        metric: the headline metric on labelled text.
    """

    name: str
    auto_class: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tensor_output: str
    tensor_output_dims: tuple[int | str, ...]
    metric: str


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="text-classification",
            auto_class="AutoModelForSequenceClassification",
            inputs=(TensorSpec(TEXT, "BYTES", (1,)),),
            outputs=(
                TensorSpec(LABEL, "BYTES", (1,)),
                TensorSpec(SCORE, "FP32", (1,)),
                TensorSpec(PROBABILITIES, "FP32", (NUM_LABELS,)),
            ),
            tensor_output=LOGITS,
            tensor_output_dims=(NUM_LABELS,),
            metric="accuracy",
        ),
    )
}


@dataclass(frozen=True)
class Precision:
    """One precision: a row of `PRECISIONS`.

    Attributes:
        name: as in ``--precision`` and in the model's name.
        description: one line for ``--help`` and the docs.
    """

    name: str
    description: str


# In the order in which they are built.
PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", "the checkpoint's own arithmetic, fused"),
        Precision("fp16", "half precision weights and arithmetic, for GPUs; inputs and outputs stay FP32"),
        Precision("int8", "8-bit signed weights, per channel, and 8-bit activations, for CPUs with VNNI or AMX"),
    )
}

# Which published precision a text model calls, best first, on each kind of hardware.
PREFERRED_PRECISIONS: dict[str, tuple[str, ...]] = {
    "cpu": ("int8", "fp32", "fp16"),
    "gpu": ("fp16", "fp32", "int8"),
}

# --- `parameters` of a text model's config.pbtxt --------------------------------------------------
PARAM_TASK = "task"
PARAM_TENSOR_MODEL = "tensor_model"
PARAM_TENSOR_INPUTS = "tensor_inputs"  # comma-separated, in the order of TENSOR_INPUTS
PARAM_TENSOR_OUTPUT = "tensor_output"
PARAM_MAX_LENGTH = "max_length"  # tokens, special tokens included
PARAM_OVER_LONG_TEXT = "over_long_text"  # one of OVER_LONG_TEXT
PARAM_MAX_TEXT_BYTES = "max_text_bytes"  # a longer text is refused before it is tokenised
PARAM_MAX_TOKENS = "max_tokens"  # most tokens (padding included) of one call of the tensor model
PARAM_CACHE_SIZE = "cache_size"  # texts; 0 = off
PARAM_PAD_TOKEN_ID = "pad_token_id"

OVER_LONG_TEXT = ("error", "truncate")

# --- Files of a version folder --------------------------------------------------------------------
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
LABELS_FILE = "labels.json"
MANIFEST_FILE = "manifest.json"
CONFIG_FILE = "config.pbtxt"


def tensor_model_name(name: str, precision: str) -> str:
    """The name of the tensor model behind text model ``name`` in ``precision``."""
    return f"{name}_{precision}"
