"""What a server that a benchmark started counts of one model, from its page of metrics."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable

from server import TritonServer


def read(server: TritonServer) -> list[str]:
    """The lines of the page at this moment."""
    with urllib.request.urlopen(server.metrics_url) as page:
        return list(page.read().decode().splitlines())


def total(page: Iterable[str], metric: str, model: str) -> float:
    """The sum of a counter or gauge over the versions and other labels of a model; 0 if there is none."""
    # Triton writes the model's name first.
    return sum(float(line.rpartition(" ")[2]) for line in page if line.startswith(f'{metric}{{model="{model}"'))
