"""What a server that a benchmark started counts of one model, from its page of metrics."""

from __future__ import annotations

import urllib.request

from server import TritonServer


def total(server: TritonServer, metric: str, model: str) -> float:
    """The sum of a counter or gauge over the versions and other labels of a model; 0 if there is none."""
    with urllib.request.urlopen(server.metrics_url) as page:
        lines = page.read().decode().splitlines()
    # Triton writes the model's name first.
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{metric}{{model="{model}"'))
