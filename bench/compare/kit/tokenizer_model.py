"""The kit's first model, inside Triton: texts to token tensors with the Hugging Face tokenizer, a request at a time."""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """The tokenizer's files lie in the version folder."""
        self.tokenizer = AutoTokenizer.from_pretrained(Path(args["model_repository"]) / args["model_version"])
        self.outputs = [output["name"] for output in json.loads(args["model_config"])["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """int64[texts, longest of the request] for each output."""
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            decoded = [text.decode() for text in texts]
            tokens = self.tokenizer(decoded, padding=True, truncation=True, return_tensors="np")
            tensors = [pb_utils.Tensor(name, tokens[name].astype("int64")) for name in self.outputs]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
