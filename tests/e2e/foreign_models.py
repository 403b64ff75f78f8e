"""Models that this project did not make: one trivial backend under configs in the style of NVIDIA's examples."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import triton

BACKEND = "foreign"

# Answers every request by its config alone: a string, or 0.5, in every place of every output.
SOURCE = """
import json

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        if "broken" in args["model_name"]:
            raise ValueError("the weights are not there")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        rows = request.inputs()[0].as_numpy().shape[0]
        return pb.InferenceResponse([self.output(one, rows) for one in self.config["output"]])

    def output(self, one, rows):
        dims = [int(dim) for dim in one["dims"]]
        if self.config["max_batch_size"] > 0:
            shape = [rows, *[abs(dim) for dim in dims]]
        else:
            shape = [rows if dims[0] < 0 else dims[0], *[abs(dim) for dim in dims[1:]]]
        if one["data_type"] == "TYPE_STRING":
            return pb.Tensor(one["name"], np.full(shape, b"fine", dtype=object))
        return pb.Tensor(one["name"], np.full(shape, 0.5, pb.triton_string_to_numpy(one["data_type"])))
"""


def tensor(name: str, data_type: str, dims: str, more: str = "") -> str:
    """One input or output of a config."""
    return f'{{ name: "{name}" data_type: {data_type} dims: {dims} {more} }}'


def config(inputs: list[str], outputs: list[str], *, max_batch_size: int = 8, more: str = "") -> str:
    """The text of a ``config.pbtxt``."""
    return (
        f'backend: "{BACKEND}"\nmax_batch_size: {max_batch_size}\n'
        f"input [{', '.join(inputs)}]\noutput [{', '.join(outputs)}]\n"
        f"instance_group [{{ kind: KIND_CPU count: 1 }}]\n{more}"
    )


LOGITS = [tensor("logits", "TYPE_FP32", "[2]")]
INT32 = "TYPE_INT32"
INT64 = "TYPE_INT64"

CONFIGS = {
    # Text.
    "text_open": config([tensor("QUERY", "TYPE_STRING", "[-1]")], [tensor("ANSWER", "TYPE_STRING", "[-1]")]),
    "text_unbatched": config(
        [tensor("TEXT", "TYPE_STRING", "[-1]")], [tensor("SCORES", "TYPE_FP32", "[-1, 3]")], max_batch_size=0
    ),
    "text_single": config(
        [tensor("TEXT", "TYPE_STRING", "[1]")], [tensor("EMBEDDING", "TYPE_FP16", "[4]")], max_batch_size=0
    ),
    "text_cached": config(
        [tensor("TEXT", "TYPE_STRING", "[1]")], LOGITS, more="dynamic_batching { }\nresponse_cache { enable: true }\n"
    ),
    "text_pair": config([tensor("QUESTION", "TYPE_STRING", "[1]"), tensor("CONTEXT", "TYPE_STRING", "[1]")], LOGITS),
    # Tensors.
    "bert_fixed": config(
        [tensor(name, INT32, "[128]") for name in ("input_ids", "segment_ids", "input_mask")],
        [tensor("cls_squad_logits", "TYPE_FP32", "[128, 2]")],
        more="dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 }\n",
    ),
    "bert_unbatched_fp16": config(
        [tensor(name, INT64, "[-1, -1]") for name in ("input_ids", "attention_mask")],
        [tensor("last_hidden_state", "TYPE_FP32", "[-1, -1, 8]")],
        max_batch_size=0,
    ),
    "bert_torch": config(
        [tensor("input__0", INT64, "[384]"), tensor("input__1", INT64, "[384]"), tensor("input__2", INT64, "[384]")],
        [tensor("output__0", "TYPE_FP32", "[2]"), tensor("output__1", "TYPE_FP32", "[4]")],
    ),
    "bert_position": config([tensor("input_ids", INT64, "[-1]"), tensor("position_ids", INT64, "[-1]")], LOGITS),
    "bert_optional": config(
        [tensor("input_ids", INT64, "[-1]"), tensor("position_ids", INT64, "[-1]", "optional: true")], LOGITS
    ),
    # Neither.
    "image": config([tensor("pixels", "TYPE_FP32", "[3, 8, 8]")], LOGITS),
    "decoupled": config(
        [tensor("TEXT", "TYPE_STRING", "[1]")], LOGITS, more="model_transaction_policy { decoupled: true }\n"
    ),
    "versioned": config([tensor("TEXT", "TYPE_STRING", "[1]")], LOGITS, more="version_policy: { all: { } }\n"),
    "broken": config([tensor("TEXT", "TYPE_STRING", "[1]")], LOGITS),
    "unloaded": config([tensor("TEXT", "TYPE_STRING", "[1]")], LOGITS),
}


def write(folder: Path) -> tuple[Path, Path]:
    """Writes the models; returns the repository and the folder of backends."""
    backends = triton.write_backend(folder / "backends", BACKEND, SOURCE)
    for name, text in CONFIGS.items():
        (folder / "repository" / name / "1").mkdir(parents=True)
        (folder / "repository" / name / "config.pbtxt").write_text(text)
    (folder / "repository/versioned/2").mkdir()
    return folder / "repository", backends
