"""Which of Triton's APIs take a key, and the keys.

Triton checks one header per group of APIs. Over gRPC it prefixes the header's name, over HTTP it does not; the same
name on both sides lets a client send one header whatever it speaks. The key reaches Triton as a command-line flag,
there is no other way; `server.argv` removes it from what other users of the machine can read.

Loading a model can run any code: Triton takes files and a config with the request. So where Triton can load models at
all (``--control``), that API has a key of its own, which no file holds and nobody but the launcher knows.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from server.errors import OptionError

APIS = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
# What no client needs for an answer, and what changes the server or tells of others: loading models and their list,
# regions of shared memory, where traces and logs go.
DEFAULT_APIS = ("model-repository", "shared-memory", "trace", "logging")
NONE = "none"
PASSED_FLAGS = ("http-restricted-api", "grpc-restricted-protocol")

MODEL_REPOSITORY = "model-repository"
_GRPC_PREFIX = "triton-grpc-protocol-"
_ADMIN, _CONTROL = "admin-key", "control-key"
HEADER = _GRPC_PREFIX + _ADMIN
MIN_KEY_LENGTH = 16
_KEY = re.compile(rf"[A-Za-z0-9_.~-]{{{MIN_KEY_LENGTH},}}")  # nothing that Triton's flag would take apart


@dataclass(frozen=True)
class Restrictions:
    """Restricted APIs and their keys.

    Attributes:
        apis: a selection of `APIS`; empty: all are open.
        key: what a caller of these sends in `HEADER`.
        control_key: what loading models and listing them takes instead; empty: ``key``.
    """

    apis: tuple[str, ...] = ()
    key: str = field(default="", repr=False)
    control_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        unknown = [api for api in self.apis if api not in APIS]
        if unknown or len(set(self.apis)) != len(self.apis):
            raise OptionError(
                f"--restricted-apis is {','.join(self.apis)!r}, expected each at most once of {', '.join(APIS)}, "
                f"separated by commas, or {NONE}"
            )
        if self.apis and not _KEY.fullmatch(self.key):
            raise OptionError(
                f"the admin key has {len(self.key)} characters or one that cannot be used, expected at least "
                f"{MIN_KEY_LENGTH} of A-Z a-z 0-9 _ . ~ -; make one with: openssl rand -hex 32"
            )

    @classmethod
    def of(cls, apis: tuple[str, ...], key_file: Path | None, *, control: bool = False) -> Restrictions:
        """These APIs, with the key in ``key_file`` or, without one, a new one.

        Args:
            apis: a selection of `APIS`.
            key_file: one line.
            control: whether Triton can load models: nobody else shall have it do that.

        Raises:
            OptionError: an API that there is not, or a key that cannot be used.
        """
        if control and MODEL_REPOSITORY not in apis:
            apis = (*apis, MODEL_REPOSITORY)
        if not apis:
            return cls()
        key = _new_key() if key_file is None else _read(key_file)
        return cls(apis, key, _new_key() if control else "")

    def flags(self) -> list[str]:
        """For tritonserver."""
        return [
            flag
            for name, (apis, key) in self._groups().items()
            for flag in (
                f"--{PASSED_FLAGS[0]}={','.join(apis)}:{_GRPC_PREFIX}{name}={key}",
                f"--{PASSED_FLAGS[1]}={','.join(apis)}:{name}={key}",
            )
        ]

    def headers(self) -> dict[str, str]:
        """What opens the restricted APIs, over HTTP and gRPC."""
        return {_GRPC_PREFIX + name: key for name, (_, key) in self._groups().items()}

    def keys(self) -> list[str]:
        """What nobody else should read."""
        return [key for _, key in self._groups().values()]

    def _groups(self) -> dict[str, tuple[list[str], str]]:
        """Name of the key -> the APIs that take it, and the key."""
        private = [MODEL_REPOSITORY] if self.control_key else []
        groups = {
            _ADMIN: ([api for api in self.apis if api not in private], self.key),
            _CONTROL: (private, self.control_key),
        }
        return {name: (apis, key) for name, (apis, key) in groups.items() if apis}


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def parse_apis(text: str) -> tuple[str, ...]:
    """The APIs of ``--restricted-apis``: names separated by commas, or ``none``.

    Raises:
        ValueError: one of them is no API.
    """
    apis = () if text == NONE else tuple(word.strip() for word in text.split(","))
    if not set(apis) <= set(APIS):
        raise ValueError(text)
    return apis


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise OptionError(f"--admin-key-file {path} cannot be read: {exc}; give a file with one line, the key") from exc
