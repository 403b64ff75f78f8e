"""MLServer's Hugging Face runtime, unchanged, made importable beside the versions that this benchmark pins.

- It imports a class for conversations that transformers dropped in 4.42 (SeldonIO/MLServer issue 1955); its last
  release, 1.7.1, is older than the fix. Nothing here holds conversations.
- It wants optimum 1, whose last version takes private names of PyTorch from where PyTorch 2.13 no longer has them. They
  only matter to exports, which do not happen here.

Runs in MLServer's own environment.
"""

import sys

import transformers.pipelines
from torch.onnx._internal.torchscript_exporter import symbolic_opset14

transformers.pipelines.Conversation = type("Conversation", (), {})  # type: ignore[attr-defined]
sys.modules["torch.onnx.symbolic_opset14"] = symbolic_opset14

from mlserver_huggingface import HuggingFaceRuntime  # noqa: E402 -- after what makes it importable

__all__ = ["HuggingFaceRuntime"]
