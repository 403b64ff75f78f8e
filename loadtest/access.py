"""What it takes to be let in: headers and certificates. Never stored with results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from loadtest.errors import UsageError

if TYPE_CHECKING:
    from bert_triton_client import Client

# How the access travels to load-generating processes: not on a command line, not in a file.
ENVIRONMENT_VARIABLE = "BERT_TRITON_LOADTEST_ACCESS"


@dataclass(frozen=True)
class Access:
    """Headers (gRPC: metadata) of every request, and a file of certificate authorities for ``grpcs`` and ``https``."""

    headers: Mapping[str, str] = field(default_factory=dict)
    ca_certificates: str | None = None

    def client(self, url: str, model: str, timeout_s: float, *, max_retries: int = 1) -> Client:
        """A client that is let in, for questions around the load; the load itself goes by `loadtest.wire`.

        Raises:
            UsageError: a URL, header or file of certificates that cannot be.
        """
        from bert_triton_client import Client, InvalidConfigError, TLSConfig

        tls = TLSConfig(ca_certificates=self.ca_certificates)
        try:
            return Client(url, model=model, headers=self.headers, tls=tls, timeout_s=timeout_s, max_retries=max_retries)
        except InvalidConfigError as exc:
            raise UsageError(str(exc)) from exc

    def to_environment(self) -> dict[str, str]:
        """The environment of a child process that is to have this access."""
        return {**os.environ, ENVIRONMENT_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Access:
        """What a parent process handed over; no access to anything special if none did."""
        return cls(**json.loads(os.environ.get(ENVIRONMENT_VARIABLE, "{}")))
