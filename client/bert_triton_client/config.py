"""What a client is told at construction: where the server is and how far to go for an answer.

Owns validation of every option, cross-field rules included. Nothing here talks to a server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict
from urllib.parse import urlsplit

from . import contract
from .errors import InvalidConfigError

DEFAULT_URL = f"grpc://localhost:{contract.GRPC_PORT}"
DEFAULT_MODEL = "sentiment"

# scheme: (protocol, TLS, port when the URL has none)
_SCHEMES = {
    "grpc": ("grpc", False, contract.GRPC_PORT),
    "http": ("http", False, contract.HTTP_PORT),
    "grpcs": ("grpc", True, 443),
    "https": ("http", True, 443),
}

# W3C Trace Context, 2021, section 3.2.2: lower case, and no identifier of zeros only.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True)
class Endpoint:
    """Where the server listens and what is spoken there."""

    protocol: str  # "grpc" or "http"
    tls: bool
    host: str
    port: int
    path: str = ""  # base path before /v2, for a server behind a gateway; HTTP only

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Reads ``grpc://host:port``, ``http://host:port/base``, ``grpcs://…`` or ``https://…``.

        Raises:
            InvalidConfigError: the URL is none of these.
        """
        parts = _split(url)
        if parts.scheme not in _SCHEMES or not url.partition("://")[1]:
            raise InvalidConfigError(
                f"URL {url!r} does not say which protocol to speak: "
                f"write grpc://host:{contract.GRPC_PORT} or http://host:{contract.HTTP_PORT} "
                "(grpcs:// or https:// with TLS)"
            )
        protocol, tls, default_port = _SCHEMES[parts.scheme]
        if not parts.hostname:
            raise InvalidConfigError(f"URL {url!r} names no host: write {parts.scheme}://host:port")
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidConfigError(
                f"URL for host {parts.hostname!r} may hold only a host, a port and a path; "
                "pass credentials in `headers`"
            )
        path = parts.path.rstrip("/")
        if path and protocol == "grpc":
            raise InvalidConfigError(f"URL {url!r} has a path, which gRPC does not know: remove {path!r}")
        return cls(protocol, tls, parts.hostname, default_port if parts.port is None else parts.port, path)

    @property
    def authority(self) -> str:
        """``host:port``, with the brackets that IPv6 wants."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.protocol}{'s' if self.tls else ''}://{self.authority}{self.path}"


def _split(url: str):  # type: ignore[no-untyped-def]  # urllib's result type has no public name that fits
    if not isinstance(url, str):
        raise InvalidConfigError(f"URL is a {type(url).__name__}, expected a string such as {DEFAULT_URL}")
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # a bad port raises only when it is read
    except ValueError as exc:
        raise InvalidConfigError(f"URL {url!r}: {exc}; expected a URL such as {DEFAULT_URL}") from exc
    return parts


@dataclass(frozen=True)
class TLSConfig:
    """Files (PEM) for ``grpcs://`` and ``https://``; without them the system's authorities are trusted.

    Attributes:
        ca_certificates: authorities that sign the server's certificate.
        certificate: this client's own certificate, where the server asks for one.
        private_key: the key of ``certificate``.
    """

    ca_certificates: str | Path | None = None
    certificate: str | Path | None = None
    private_key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidConfigError("TLS: `certificate` and `private_key` go together, only one is set")
        for name in ("ca_certificates", "certificate", "private_key"):
            value = getattr(self, name)
            if value is not None and not Path(value).is_file():
                raise InvalidConfigError(f"TLS: `{name}` {str(value)!r} is not a file")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of both clients: the fields of `ClientConfig` but the URL."""

    model: str
    timeout_s: float | None
    request_timeout_s: float
    max_in_flight: int
    max_retries: int
    backoff_initial_s: float
    backoff_max_s: float
    max_request_texts: int | None
    max_request_bytes: int
    headers: Mapping[str, str]
    traceparent: Callable[[], str | None] | None
    tls: TLSConfig


@dataclass(frozen=True)
class ClientConfig:
    """Every option of a client.

    Attributes:
        url: ``grpc://host:port`` or ``http://host:port``.
        model: the model that is meant where a call names none.
        timeout_s: for a whole call, retries and all its requests included, where the call names
            none. None: as long as the texts need, each request within ``request_timeout_s``.
        request_timeout_s: for one request and its retries, in calls without a ``timeout_s``.
        max_in_flight: requests of many-text calls that are under way at once.
        max_retries: further tries after an unreachable server or a full queue; 0 = none.
        backoff_initial_s: upper bound of the first pause; it doubles with every try.
        backoff_max_s: upper bound of any pause.
        max_request_texts: texts of one request; None = the model's ``max_batch_size``.
        max_request_bytes: bytes of text of one request; a longer single text still goes alone.
        headers: sent with every request: a token, or the key of a restricted API.
        traceparent: says what trace a call belongs to, in the words of W3C Trace Context, or None for none; sent with
            all inference requests of the call, tries again included. Called once a call, before its first request, in
            the thread or task that calls, so that context variables are the caller's; by `classify_iter` when its
            first answer is asked for. What it raises, the call raises.
        tls: files for ``grpcs://`` and ``https://``.
    """

    url: str
    model: str = DEFAULT_MODEL
    timeout_s: float | None = None
    request_timeout_s: float = 30.0
    max_in_flight: int = 8
    max_retries: int = 4
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 2.0
    max_request_texts: int | None = None
    max_request_bytes: int = 4 * 2**20
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    traceparent: Callable[[], str | None] | None = None
    tls: TLSConfig = TLSConfig()
    endpoint: Endpoint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", Endpoint.parse(self.url))
        check_timeout("timeout_s", self.timeout_s)
        _check_number("request_timeout_s", self.request_timeout_s, above=0)
        _check_number("backoff_initial_s", self.backoff_initial_s, above=0)
        _check_number("backoff_max_s", self.backoff_max_s, above=0)
        _check_count("max_in_flight", self.max_in_flight, least=1)
        _check_count("max_retries", self.max_retries, least=0)
        _check_count("max_request_bytes", self.max_request_bytes, least=1)
        if self.max_request_texts is not None:
            _check_count("max_request_texts", self.max_request_texts, least=1)
        if not isinstance(self.model, str) or not self.model:
            raise InvalidConfigError(f"model is {self.model!r}, expected the name of a model")
        if self.backoff_max_s < self.backoff_initial_s:
            raise InvalidConfigError(
                f"backoff_max_s={self.backoff_max_s} is below backoff_initial_s={self.backoff_initial_s}"
            )
        if self.tls != TLSConfig() and not self.endpoint.tls:
            raise InvalidConfigError(f"TLS files are given but {self.url!r} is not TLS: write {self._tls_url()}")
        object.__setattr__(self, "headers", _checked_headers(self.headers))
        if self.traceparent is not None and not callable(self.traceparent):
            raise InvalidConfigError(
                f"traceparent={self.traceparent!r}, expected a function that returns the traceparent of a call"
            )
        if self.traceparent is not None and "traceparent" in self.headers:
            raise InvalidConfigError("traceparent is given as an option and among `headers`: remove one of them")

    def _tls_url(self) -> str:
        return str(Endpoint(self.endpoint.protocol, True, self.endpoint.host, self.endpoint.port, self.endpoint.path))


def check_timeout(name: str, value: float | None) -> None:
    """A timeout is a positive number of seconds, or None."""
    if value is not None:
        _check_number(name, value, above=0)


def check_traceparent(value: str | None) -> str | None:
    """What `ClientConfig.traceparent` returned, if it is a ``traceparent`` or None."""
    if value is not None and not (isinstance(value, str) and _TRACEPARENT.fullmatch(value)):
        raise InvalidConfigError(
            f"traceparent() returned {value!r}, expected None or 00-<trace>-<parent>-<flags> with 32, 16 and 2 digits "
            "in 0-9a-f, trace and parent not all zeros"
        )
    return value


def _check_number(name: str, value: float, *, above: float) -> None:
    # `not >` also refuses NaN; infinity would overflow the protocols' timers.
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value > above or value == float("inf"):
        raise InvalidConfigError(f"{name}={value!r}, expected a number above {above}")


def _check_count(name: str, value: int, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidConfigError(f"{name}={value!r}, expected a whole number of at least {least}")


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        plain = isinstance(name, str) and isinstance(value, str) and (name + value).isascii()
        if not plain or not name or not (name + value).isprintable() or any(c in name for c in ' :"'):
            raise InvalidConfigError(f"header {name!r}: expected a name and a value of printable ASCII")
    # gRPC takes lower case only, HTTP takes any.
    return MappingProxyType({name.lower(): value for name, value in headers.items()})
