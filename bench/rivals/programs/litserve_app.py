"""A LitServe service as its documentation writes one: ``{"text": …}`` to ``/predict``, ``{"label": …}`` back.

Runs in LitServe's own environment; ``python litserve_app.py --port …``.
"""

import argparse
from typing import Any

import litserve
from classifier import from_environment


class TextClassification(litserve.LitAPI):
    """One text at a time, or a list of them where batching is on."""

    def setup(self, device: str) -> None:  # noqa: ARG002 -- LitServe's signature; there is only the CPU
        """Loads the model, once a worker."""
        self.classifier = from_environment()

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text."""
        return str(request["text"])

    def predict(self, x: str | list[str]) -> str | list[str]:
        """Its label, or theirs."""
        if isinstance(x, str):
            return self.classifier.classify([x])[0]
        return self.classifier.classify(x)

    def encode_response(self, output: str) -> dict[str, str]:
        """The label."""
        return {"label": output}


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, default=1)
    parser.add_argument("--batch-timeout", type=float, default=0.0, help="seconds")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    api = TextClassification(max_batch_size=arguments.max_batch_size, batch_timeout=arguments.batch_timeout)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=arguments.workers)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
