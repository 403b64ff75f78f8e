"""A TorchServe handler for text classification, batched; runs in TorchServe's own environment."""

from __future__ import annotations

from typing import Any

from classifier import from_environment
from ts.torch_handler.base_handler import BaseHandler


class TextClassification(BaseHandler):
    """``{"text": …}`` in, ``{"label": …}`` out."""

    def initialize(self, context: Any) -> None:  # noqa: ARG002 -- TorchServe's signature; all it needs is in the environment
        """Loads the model, once a worker."""
        self.classifier = from_environment()
        self.initialized = True

    def preprocess(self, data: list[dict[str, Any]]) -> list[str]:
        """The texts of the batch."""
        return [str(row["body"]["text"]) for row in data]

    def inference(self, data: list[str], *_: Any, **__: Any) -> list[str]:
        """Their labels."""
        return self.classifier.classify(data)

    def postprocess(self, data: list[str]) -> list[dict[str, str]]:
        """One answer a request."""
        return [{"label": label} for label in data]
