"""Asks a running Triton whether it can answer: its own health, every model's state, and a canary inference.

Triton's health endpoints stay green while a backend process is dead, so the last word is an answer from each
text model. Standard library HTTP only.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bert_triton_client.contract import TEXT, TEXT_BACKEND

CANARY_TEXT = "Is anybody there?"
CANARY_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 2.0  # for everything but inference; whoever asks, asks again
POLL_S = 0.05
READY = "READY"
RETIRED = "unloaded"  # Triton's reason for a version that the version policy or a client took out of service


@dataclass(frozen=True)
class ModelState:
    """One row of Triton's repository index."""

    name: str
    version: str
    state: str  # READY, LOADING, UNLOADING, UNAVAILABLE, or empty: never loaded
    reason: str

    @property
    def failed(self) -> bool:
        """Whether Triton tried to load it and could not."""
        return self.state == "UNAVAILABLE" and self.reason != RETIRED

    @property
    def settled(self) -> bool:
        """Whether this state stays until somebody acts."""
        return self.state not in ("LOADING", "UNLOADING")


class NotReady(Exception):  # noqa: N818 -- a state, not an error: it becomes one when the deadline passes
    """Why the server is not ready yet."""


class Refused(NotReady):
    """Refused for now (503): a queue is full."""


class CanaryFailed(NotReady):
    """A text model is loaded but does not answer."""


class CanaryRefused(CanaryFailed):
    """It answers that its queue is full."""


@dataclass(frozen=True)
class Probe:
    """Talks to one server's HTTP port.

    Args:
        host: where to connect.
        port: HTTP port.
        server_id: the name that server was started with; another one on the same port is told apart by it.
        headers: for ``--http-restricted-api``.
    """

    host: str
    port: int
    server_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def check(self, canary_timeout_s: float = CANARY_TIMEOUT_S) -> list[ModelState]:
        """The states of all models, once they are settled and every ready text model has answered.

        Raises:
            NotReady: with the reason.
        """
        name = self._get("/v2")["name"]
        if self.server_id is not None and name != self.server_id:
            raise NotReady(f"another server ({name}) answers on port {self.port}")
        states = self.models()
        for state in states:
            if not state.settled:
                raise NotReady(f"model {state.name} version {state.version} is {state.state}")
        for name in self.text_models(sorted({state.name for state in states if state.state == READY})):
            self.canary(name, canary_timeout_s)
        return states

    def text_models(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that take text."""
        return [name for name in names if self.config(name).get("backend") == TEXT_BACKEND]

    def models(self) -> list[ModelState]:
        """Every model version that Triton knows."""
        rows = self._request("POST", "/v2/repository/index", REQUEST_TIMEOUT_S)
        return [
            ModelState(row["name"], row.get("version", ""), row.get("state", ""), row.get("reason", "")) for row in rows
        ]

    def config(self, name: str) -> dict[str, Any]:
        """The model's completed config."""
        return dict(self._get(f"/v2/models/{quote(name)}/config"))

    def version(self) -> str:
        """The version of Triton, for example 2.51.0."""
        return str(self._get("/v2")["version"])

    def metrics(self) -> str:
        """The text of /metrics (where this probe's port is the metrics port)."""
        return self._exchange("GET", "/metrics", REQUEST_TIMEOUT_S).decode("utf-8", "replace")

    def canary(self, name: str, timeout_s: float = CANARY_TIMEOUT_S) -> None:
        """One inference of a text model.

        Raises:
            CanaryFailed: it failed or took longer than ``timeout_s``; `CanaryRefused`: it had no room.
        """
        try:
            self.ask(name, CANARY_TEXT, timeout_s)
        except NotReady as exc:
            kind = CanaryRefused if isinstance(exc, Refused) else CanaryFailed
            raise kind(f"model {name} is loaded but does not answer: {exc}") from exc

    def ask(self, name: str, text: str, timeout_s: float, version: str = "") -> None:
        """One inference of a text model; ``version``: of that one, else of the newest.

        Raises:
            NotReady: it failed or took longer than ``timeout_s``; `Refused`: it had no room.
        """
        tensor = {"name": TEXT, "shape": [1, 1], "datatype": "BYTES", "data": [text]}
        path = f"/v2/models/{quote(name)}" + (f"/versions/{version}" if version else "")
        self._request("POST", f"{path}/infer", timeout_s, {"inputs": [tensor]})

    def canary_under_load(
        self, name: str, interrupted: Callable[[], bool], timeout_s: float = CANARY_TIMEOUT_S
    ) -> None:
        """`canary`, again while the queue is full: that refuses any text, and says nothing against the model.

        Raises:
            CanaryFailed: it failed, or found no room for ``timeout_s`` or until ``interrupted``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.canary(name, timeout_s)
            except CanaryRefused:
                if interrupted() or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    def _get(self, path: str) -> Any:
        return self._request("GET", path, REQUEST_TIMEOUT_S)

    def _request(self, method: str, path: str, timeout_s: float, body: object = None) -> Any:
        answer = self._exchange(method, path, timeout_s, None if body is None else json.dumps(body))
        try:
            return json.loads(answer) if answer else None
        except ValueError as exc:
            raise NotReady(f"{method} {path} answered no JSON: {answer[:80]!r}") from exc

    def _exchange(self, method: str, path: str, timeout_s: float, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Connection": "close", **self.headers})
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError as exc:
            raise NotReady(f"no answer to {method} {path} within {timeout_s:.1f} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise NotReady(f"{method} {path}: {exc}") from exc
        finally:
            connection.close()
        if response.status != http.client.OK:
            kind = Refused if response.status == http.client.SERVICE_UNAVAILABLE else NotReady
            raise kind(f"{method} {path} answered {response.status}: {_message(answer)}")
        return answer


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:200]


def restricted_headers(extra_args: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """The headers that ``--http-restricted-api=<apis>:<key>=<value>`` asks for."""
    for value in extra_args.get("http-restricted-api", []):
        key, equals, secret = value.partition(":")[2].partition("=")
        if equals:
            yield key, secret
