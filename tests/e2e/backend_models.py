"""Tiny models for the tests of the backends: written in milliseconds, with answers a test can compute.

bag      an ONNX graph: logits = sum over the text's tokens of a row of weights; padding is masked out
slow     a backend of a few lines: takes the seconds its first token says, fails when told to
text     a bert_text model in front of one of them
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from tests.conftest import REPOSITORY_ROOT

LABELS = ("negative", "positive")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("good", "bad", "film", "wait0.5s", "fail", "nan", *(f"w{number}" for number in range(50)))
VOCABULARY = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
PLAIN_BATCHING = "dynamic_batching { }"

SLOW_BACKEND = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils

WAIT, FAIL, NAN = {wait}, {fail}, {nan}


class TritonPythonModel:
    failures = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        ids = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy()
        if (ids == WAIT).any():
            time.sleep(0.5)
        if (ids == FAIL).any():
            self.failures += 1
            if self.failures % 2:
                return pb_utils.InferenceResponse([], pb_utils.TritonError("told to fail"))
        logits = np.zeros((len(ids), 2), dtype=np.float32)
        logits[(ids == NAN).any(axis=1)] = np.nan
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
"""


def write_backends(folder: Path) -> Path:
    """The checkout's backends and ``slow``; returns the folder."""
    for name in ("bert_text", "onnxruntime"):
        (folder / name).symlink_to(REPOSITORY_ROOT / "backends" / name, target_is_directory=True)
    (folder / "slow").mkdir()
    source = SLOW_BACKEND.format(**{name: VOCABULARY[word] for name, word in SLOW_WORDS.items()})
    (folder / "slow" / "model.py").write_text(source)
    return folder


SLOW_WORDS = {"wait": "wait0.5s", "fail": "fail", "nan": "nan"}


def weights(version: int) -> np.ndarray:
    """float32[vocabulary, 2] of the bag model's version."""
    return np.random.default_rng(version).normal(size=(len(VOCABULARY), 2)).astype(np.float32)


def probabilities(text: str, version: int = 1, max_length: int = 16) -> np.ndarray:
    """What a text model in front of ``bag`` should answer."""
    words = text.lower().split()[: max_length - 2]
    ids = [VOCABULARY["[CLS]"], *(VOCABULARY.get(word, VOCABULARY["[UNK]"]) for word in words), VOCABULARY["[SEP]"]]
    logits = weights(version)[ids].sum(axis=0).astype(np.float64)
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


def write_tokenizer(path: Path) -> None:
    """Words by white space, with BERT's special tokens."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = [(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
    tokenizer.save(str(path))


def bag_graph(path: Path, version: int) -> None:
    """The ONNX file of ``bag``."""
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "bag",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 2])],
        [
            numpy_helper.from_array(weights(version), "weights"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens"),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_tensor_model(
    repository: Path,
    name: str,
    *,
    backend: str = "onnxruntime",
    versions: Sequence[int] = (1,),
    batching: str = PLAIN_BATCHING,
) -> None:
    """``bag`` or ``slow``, with its config."""
    folder = repository / name
    for version in versions:
        (folder / str(version)).mkdir(parents=True)
        if backend == "onnxruntime":
            bag_graph(folder / str(version) / "model.onnx", version)
    (folder / "config.pbtxt").write_text(
        f"""
        backend: "{backend}"
        max_batch_size: 64
        input {{ name: "input_ids" data_type: TYPE_INT64 dims: -1 }}
        input {{ name: "attention_mask" data_type: TYPE_INT64 dims: -1 }}
        output {{ name: "logits" data_type: TYPE_FP32 dims: 2 }}
        instance_group {{ kind: KIND_CPU count: 1 }}
        version_policy {{ all {{ }} }}
        {batching}
        parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
        """
    )


def write_text_model(
    repository: Path,
    name: str,
    tensor_model: str,
    /,
    *,
    versions: Sequence[int] = (1,),
    batching: str = PLAIN_BATCHING,
    tensors: bool = True,
    max_batch_size: int = 64,
    instances: int = 1,
    **parameters: str | None,
) -> None:
    """A bert_text model; a parameter that is None is left out."""
    folder = repository / name
    for version in versions:
        (folder / str(version)).mkdir(parents=True)
        write_tokenizer(folder / str(version) / "tokenizer.json")
        (folder / str(version) / "labels.json").write_text(json.dumps(LABELS))
    merged = {
        "task": "text-classification",
        "tensor_model": tensor_model,
        "tensor_inputs": "input_ids,attention_mask",
        "tensor_output": "logits",
        "max_length": "16",
        "pad_token_id": "0",
        **parameters,
    }
    written = [
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in merged.items()
        if value is not None
    ]
    io = """
        input { name: "TEXT" data_type: TYPE_STRING dims: 1 }
        output { name: "LABEL" data_type: TYPE_STRING dims: 1 }
        output { name: "SCORE" data_type: TYPE_FP32 dims: 1 }
        output { name: "PROBABILITIES" data_type: TYPE_FP32 dims: 2 }
        """
    (folder / "config.pbtxt").write_text(
        f"""
        backend: "bert_text"
        max_batch_size: {max_batch_size}
        {io if tensors else ""}
        instance_group {{ kind: KIND_CPU count: {instances} }}
        version_policy {{ all {{ }} }}
        {batching}
        """
        + "\n".join(written)
    )
