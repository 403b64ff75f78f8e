"""What the gateway is told by its environment, and nothing else: every ``GATEWAY_`` variable, checked.

An unknown ``GATEWAY_`` variable is an error: a misspelt limit would otherwise be no limit.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SettingsError

PREFIX = "GATEWAY_"
OFF = "off"
SELF_SIGNED = "self-signed"

MEBIBYTE = 2**20
# The path of a Unix socket has 107 characters on Linux: the folder's and those of the longest name in it.
MAX_STATE_FOLDER_LENGTH = 107 - len("/ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff-65535.sock")
# Names that need no escape in a URL, a regular expression (but for the dot) or a label.
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


def _check_names(variable: str, names: tuple[str, ...], pattern: re.Pattern[str], expected: str) -> None:
    if not names:
        raise SettingsError(f"{variable} is empty, expected at least {expected}")
    for name in names:
        if not pattern.fullmatch(name):
            raise SettingsError(f"{variable} holds {name!r}, expected {expected}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"{variable} holds {twice[0]!r} twice")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name} is {value}, expected {least} to {most}")


def _check_address(variable: str, value: str, read: Callable[[str], object]) -> None:
    try:
        read(value)
    except ValueError as exc:
        raise SettingsError(f"{variable} holds {value!r}: {exc}") from exc


@dataclass(frozen=True)
class Triton:
    """One name to find Tritons under; it may resolve to several addresses, each of which is one replica.

    Attributes:
        host: a name or an IPv4 address.
        http_port: of KServe v2 over HTTP.
        grpc_port: of KServe v2 over gRPC.
    """

    host: str
    http_port: int = 8000
    grpc_port: int = 8001

    def __post_init__(self) -> None:
        if not _HOST_NAME.fullmatch(self.host):
            raise SettingsError(f"Triton's host is {self.host!r}, expected a name or an IPv4 address")
        for port in (self.http_port, self.grpc_port):
            _check_range(f"a port of Triton {self.host!r}", port, 1, 65535)

    @classmethod
    def parse(cls, text: str) -> Triton:
        """Reads ``host:http_port:grpc_port``."""
        host, *ports = text.split(":")
        if len(ports) != 2 or not all(port.isdecimal() for port in ports):
            raise SettingsError(f"{text!r} is not of the form host:http_port:grpc_port, such as triton:8000:8001")
        return cls(host, int(ports[0]), int(ports[1]))


@dataclass(frozen=True)
class Settings:
    """Every setting of the gateway; what an environment variable is called is in `VARIABLES`.

    Attributes:
        models: names that may be asked; everything else is refused.
        api_keys: file of lines ``name key``; None: no key is asked for.
        certificate: PEM file with the chain; None: one is made and signed by itself, for development.
        private_key: PEM file with the key of ``certificate``.
        certificate_names: host names and addresses of a self-signed certificate.
        tritons: where the replicas are.
        host: address to listen on for clients.
        port: the public port: TLS, HTTP/1.1 and HTTP/2 with gRPC.
        metrics_host: address of ``metrics_port``, where mtail has pages for debugging too.
        metrics_port: where mtail serves /metrics; not for the public.
        rate_per_minute: requests of one IP address on the long run; None: any number.
        rate_burst: requests of one IP address that may come at once before the rate counts.
        concurrent_per_ip: requests of one IP address under way at once.
        max_body_bytes: of one request; more is refused with 413.
        max_json_bytes: of a request over HTTP, or the part of it, that is JSON; a Triton whose threads have a stack of
            8 MiB, which is usual, dies of 4 MB of it.
        try_timeout_s: how long one Triton may take before another one is tried.
        client_timeout_s: how long a client may take for its headers, and between two reads or writes.
        drain_timeout_s: how long requests under way may take after SIGTERM.
        state_folder: writable, for configuration, sockets and temporary files.
        workers: nginx's worker processes.
        trusted_proxies: networks whose X-Forwarded-For is believed; empty: nobody's.
        trace_percent: of requests that come without a traceparent, how many are marked to be traced.
    """

    models: tuple[str, ...]
    api_keys: Path | None
    certificate: Path | None
    private_key: Path | None = None
    certificate_names: tuple[str, ...] = ("localhost", "127.0.0.1", "gateway")
    tritons: tuple[Triton, ...] = (Triton("triton"),)
    host: str = "0.0.0.0"  # noqa: S104 -- in a container there is no narrower address that is known
    port: int = 8443
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9145
    rate_per_minute: int | None = 100
    rate_burst: int = 20
    concurrent_per_ip: int = 32
    max_body_bytes: int = 8 * MEBIBYTE
    max_json_bytes: int = 2 * MEBIBYTE
    try_timeout_s: int = 10
    client_timeout_s: int = 10
    drain_timeout_s: int = 30
    state_folder: Path = Path("/tmp/gateway")  # noqa: S108 -- a tmpfs of the container
    workers: int = 2
    trusted_proxies: tuple[str, ...] = ()
    trace_percent: int = 1

    def __post_init__(self) -> None:
        _check_names("GATEWAY_MODELS", self.models, _MODEL_NAME, "a model's name of letters, digits, '_', '.', '-'")
        _check_names("GATEWAY_CERTIFICATE_NAMES", self.certificate_names, _HOST_NAME, "a host name or IPv4 address")
        if not self.tritons:
            raise SettingsError("GATEWAY_TRITONS names no Triton; write host:http_port:grpc_port")
        if (self.certificate is None) != (self.private_key is None):
            raise SettingsError(
                "GATEWAY_CERTIFICATE and GATEWAY_PRIVATE_KEY go together: "
                f"{_shown(self.certificate)} and {_shown(self.private_key)}; give two files, or {SELF_SIGNED} alone"
            )
        if self.port == self.metrics_port:
            raise SettingsError(f"GATEWAY_PORT and GATEWAY_METRICS_PORT are both {self.port}; give them two ports")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if value is not None:
                _check_range(PREFIX + name.upper(), value, least, most)
        if len(str(self.state_folder)) > MAX_STATE_FOLDER_LENGTH:
            raise SettingsError(
                f"GATEWAY_STATE_FOLDER {str(self.state_folder)!r} is longer than the {MAX_STATE_FOLDER_LENGTH} "
                "characters that leave room for the names of sockets; give a shorter path"
            )
        for name in ("host", "metrics_host"):
            _check_address(PREFIX + name.upper(), getattr(self, name), ipaddress.IPv4Address)
        for network in self.trusted_proxies:
            _check_address("GATEWAY_TRUSTED_PROXIES", network, ipaddress.ip_network)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads the ``GATEWAY_`` variables; the others are nobody's business here, and empty ones are not set.

        Raises:
            SettingsError: one is unknown, missing or wrong.
        """
        # docker compose can hand on a variable that is not set only as one that is empty.
        given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value.strip()}
        for name in given:
            if name not in VARIABLES:
                close = [known for known in VARIABLES if known.startswith(name)]
                close = close or difflib.get_close_matches(name, VARIABLES, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(VARIABLES)}"
                raise SettingsError(f"{name} is unknown; {hint}")
        for name, meaning in _REQUIRED.items():
            if name not in given:
                raise SettingsError(f"{name} is not set; give {meaning}")
        return cls(**{_field(name): VARIABLES[name](name, value.strip()) for name, value in given.items()})


# (field, least, most); None is allowed where the field may be off
_RANGES = (
    ("port", 1, 65535),
    ("metrics_port", 1, 65535),
    ("rate_per_minute", 1, 1_000_000),
    ("rate_burst", 0, 100_000),
    ("concurrent_per_ip", 1, 10_000),
    ("max_body_bytes", 1024, 1024 * MEBIBYTE),
    ("max_json_bytes", 1024, 1024 * MEBIBYTE),
    ("try_timeout_s", 1, 3600),
    ("client_timeout_s", 1, 3600),
    ("drain_timeout_s", 1, 3600),
    ("workers", 1, 64),
    ("trace_percent", 0, 100),
)

_REQUIRED = {
    "GATEWAY_MODELS": "the names of the models that may be asked, with commas between them",
    "GATEWAY_API_KEYS": f"the path of a file of lines `name key`, or {OFF}",
    "GATEWAY_CERTIFICATE": f"the path of a PEM file, with GATEWAY_PRIVATE_KEY, or {SELF_SIGNED} for development",
}


def _text(_name: str, value: str) -> str:
    return value


def _names(_name: str, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise SettingsError(f"{name}={value!r}, expected a whole number")
    return int(value)


def _whole_or_off(name: str, value: str) -> int | None:
    return None if value == OFF else _whole(name, value)


def _path(name: str, value: str) -> Path:
    if not value.startswith("/"):
        raise SettingsError(f"{name}={value!r}, expected an absolute path")
    # nginx.conf quotes paths, and has no way to say these.
    if any(character in value for character in "\"'\\$;{}\n"):
        raise SettingsError(f"{name}={value!r} holds a character that nginx's configuration cannot; rename it")
    return Path(value)


def _path_or(word: str) -> Callable[[str, str], Path | None]:
    return lambda name, value: None if value == word else _path(name, value)


def _tritons(_name: str, value: str) -> tuple[Triton, ...]:
    return tuple(Triton.parse(part.strip()) for part in value.split(",") if part.strip())


# variable: how its text is read; the field is the name in lower case without the prefix
VARIABLES: Mapping[str, Callable[[str, str], Any]] = {
    "GATEWAY_MODELS": _names,
    "GATEWAY_API_KEYS": _path_or(OFF),
    "GATEWAY_CERTIFICATE": _path_or(SELF_SIGNED),
    "GATEWAY_PRIVATE_KEY": _path,
    "GATEWAY_CERTIFICATE_NAMES": _names,
    "GATEWAY_TRITONS": _tritons,
    "GATEWAY_HOST": _text,
    "GATEWAY_PORT": _whole,
    "GATEWAY_METRICS_HOST": _text,
    "GATEWAY_METRICS_PORT": _whole,
    "GATEWAY_RATE_PER_MINUTE": _whole_or_off,
    "GATEWAY_RATE_BURST": _whole,
    "GATEWAY_CONCURRENT_PER_IP": _whole,
    "GATEWAY_MAX_BODY_BYTES": _whole,
    "GATEWAY_MAX_JSON_BYTES": _whole,
    "GATEWAY_TRY_TIMEOUT_S": _whole,
    "GATEWAY_CLIENT_TIMEOUT_S": _whole,
    "GATEWAY_DRAIN_TIMEOUT_S": _whole,
    "GATEWAY_STATE_FOLDER": _path,
    "GATEWAY_WORKERS": _whole,
    "GATEWAY_TRUSTED_PROXIES": _names,
    "GATEWAY_TRACE_PERCENT": _whole,
}


def _field(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _shown(path: Path | None) -> str:
    return "none" if path is None else repr(str(path))
