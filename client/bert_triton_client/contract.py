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
# A tensor model's backend is the engine that computes it.
ONNXRUNTIME = "onnxruntime"
OPENVINO = "openvino"
TENSOR_BACKENDS = (ONNXRUNTIME, OPENVINO)

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
        engines: what can serve it on a CPU, a selection of `TENSOR_BACKENDS`. OpenVINO computes FP32 models in BF16 by
            itself where the CPU has it, and Triton's backend has no key against that: so it serves no ``fp32``.
    """

    name: str
    description: str
    engines: tuple[str, ...]


# In the order in which they are built: the most precise first.
PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", "the checkpoint's own arithmetic, fused", (ONNXRUNTIME,)),
        Precision(
            "fp16", "half precision weights and arithmetic, for GPUs; inputs and outputs stay FP32", (ONNXRUNTIME,)
        ),
        Precision("bf16", "FP32 weights, computed in bfloat16, for CPUs that have it (AMX, AVX512_BF16)", (OPENVINO,)),
        Precision(
            "int8",
            "8-bit signed weights, per channel, and 8-bit activations, for CPUs with VNNI or AMX",
            (OPENVINO, ONNXRUNTIME),
        ),
    )
}
ENGINES: dict[str, tuple[str, ...]] = {precision.name: precision.engines for precision in PRECISIONS.values()}

# Which published precision a text model calls, best first, on each kind of hardware. On the CPU this is the order
# without a measurement; export measures, and calls what is fastest.
PREFERRED_PRECISIONS: dict[str, tuple[str, ...]] = {
    "cpu": ("int8", "bf16", "fp32", "fp16"),
    "gpu": ("fp16", "fp32", "bf16", "int8"),
}

# --- `parameters` of a text model's config.pbtxt --------------------------------------------------
PARAM_TASK = "task"
PARAM_TENSOR_MODEL = "tensor_model"
PARAM_TENSOR_INPUTS = "tensor_inputs"  # comma-separated, in the order of TENSOR_INPUTS
PARAM_TENSOR_OUTPUT = "tensor_output"
PARAM_MAX_LENGTH = "max_length"  # tokens, special tokens included
PARAM_OVER_LONG_TEXT = "over_long_text"  # one of OVER_LONG_TEXT
PARAM_MAX_TEXT_BYTES = "max_text_bytes"  # a longer text is refused before it is tokenised
PARAM_MAX_TOKENS = "max_tokens"  # most tokens of one call of the tensor model; padding counts unless it is packed
PARAM_PACKED = "packed"  # whether the tensor model drops the padding: true or false
PARAM_CALLS_IN_FLIGHT = "calls_in_flight"  # calls of the tensor model under way at once: one more than its instances
PARAM_MAX_QUEUE_SIZE = "max_queue_size"  # texts that may wait; 0 = any number
PARAM_QUEUE_TIMEOUT_MS = "queue_timeout_ms"  # how long a request waits at most; 0 = as long as its caller lets it
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
