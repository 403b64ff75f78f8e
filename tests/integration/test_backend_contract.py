"""The code inside Triton cannot import the contract; here the two are held together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from backends.bert_text import decode, settings, tensors, version_folder
from bert_triton_client import contract
from export import triton_config
from export.serving import ServingOptions
from tests.conftest import REPOSITORY_ROOT

BACKENDS = REPOSITORY_ROOT / "backends"


def test_tasks_are_the_contracts() -> None:
    assert set(decode.TASKS) == set(contract.TASKS)
    for name, task in contract.TASKS.items():
        for kind in ("inputs", "outputs"):
            theirs = [
                (
                    spec.name,
                    triton_config.DATATYPES[spec.datatype],
                    [7 if d == contract.NUM_LABELS else d for d in spec.dims],
                )
                for spec in getattr(task, kind)
            ]
            index = ("inputs", "outputs").index(kind)
            ours = version_folder.tensors(decode.TASKS[name], 7)[index]
            assert [(tensor["name"], tensor["data_type"], tensor["dims"]) for tensor in ours] == theirs


def test_names_are_the_contracts() -> None:
    assert tensors.TENSOR_INPUTS == contract.TENSOR_INPUTS
    assert settings.OVER_LONG_TEXT == contract.OVER_LONG_TEXT
    assert (version_folder.TOKENIZER_FILE, version_folder.LABELS_FILE) == (
        contract.TOKENIZER_FILE,
        contract.LABELS_FILE,
    )


@pytest.mark.parametrize("hardware", list(contract.PREFERRED_PRECISIONS))
@pytest.mark.parametrize("task", list(contract.TASKS))
def test_what_export_writes_is_what_the_backend_reads(task: str, hardware: str) -> None:
    configs = triton_config.text_configs(
        "sentiment",
        task=task,
        served={"cpu": "int8", "gpu": "fp16"},
        inputs=contract.TENSOR_INPUTS,
        labels=["negative", "positive"],
        max_length=128,
        pad_token_id=1,
        options=ServingOptions(cache_size=7, over_long_text="truncate", text_max_batch_size=32),
    )
    message = triton_config.parse(configs[f"configs/{hardware}.pbtxt"])
    # What Triton hands to a Python-based backend: its config as JSON, with the proto's own names.
    config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    read = settings.Settings.from_model_config(config)
    assert read.tensor_model == contract.tensor_model_name("sentiment", {"cpu": "int8", "gpu": "fp16"}[hardware])
    assert (read.max_length, read.pad_token_id, read.cache_size, read.max_batch_size) == (128, 1, 7, 32)
    assert (read.over_long_text, read.tensor_output) == ("truncate", contract.TASKS[task].tensor_output)
    version_folder.check_tensors(config, read.task, 2)


@pytest.mark.parametrize("backend", ["bert_text", "onnxruntime", "openvino"])
def test_triton_finds_our_modules_and_not_others_of_their_names(backend: str, tmp_path: Path) -> None:
    """As Triton's stub does it: the backend's folder at the end of sys.path, then ``import model``."""
    decoys = [path.stem for path in (BACKENDS / backend).glob("*.py") if path.stem not in ("model", "__init__")]
    for name in decoys:
        (tmp_path / f"{name}.py").write_text("raise ImportError('somebody else')")
    (tmp_path / "triton_python_backend_utils.py").touch()
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path.append({str(BACKENDS / backend)!r})\n"
        "import model; print(model.TritonPythonModel.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(".triton_model")
