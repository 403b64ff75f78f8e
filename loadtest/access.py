"""What it takes to be let in: headers and certificates. Never stored with results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# How the access travels to load-generating processes: not on a command line, not in a file.
ENVIRONMENT_VARIABLE = "BERT_TRITON_LOADTEST_ACCESS"


@dataclass(frozen=True)
class Access:
    """Headers (gRPC: metadata) of every request, and a file of certificate authorities for ``grpcs`` and ``https``."""

    headers: Mapping[str, str] = field(default_factory=dict)
    ca_certificates: str | None = None

    def to_environment(self) -> dict[str, str]:
        """The environment of a child process that is to have this access."""
        return {**os.environ, ENVIRONMENT_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Access:
        """What a parent process handed over; no access to anything special if none did."""
        return cls(**json.loads(os.environ.get(ENVIRONMENT_VARIABLE, "{}")))
