"""API keys: the file that holds them, and the part of nginx.conf that knows them.

One line a key, ``name key``; the name goes into the log, the key does not. Two keys of one caller at once, so that
the caller can change over, are two lines with two names (``shop-2026`` and ``shop-2027``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import KeysError

MIN_LENGTH = 16
MAX_LENGTH = 512
ANONYMOUS = "anonymous"  # the name in the log where no key is asked for
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what RFC 6750 lets follow the word Bearer
_MAKE_ONE = "make one with: openssl rand -hex 32"


@dataclass(frozen=True)
class ApiKey:
    """A key and whose it is.

    Attributes:
        name: for the log.
        key: the secret; never in a message.
    """

    name: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == ANONYMOUS:
            raise KeysError(f"{self.name!r} cannot name a key; use up to 64 letters, digits, '_', '.' and '-'")
        if not MIN_LENGTH <= len(self.key) <= MAX_LENGTH:
            raise KeysError(
                f"the key of {self.name!r} has {len(self.key)} characters, "
                f"expected {MIN_LENGTH} to {MAX_LENGTH}; {_MAKE_ONE}"
            )
        if not _KEY.fullmatch(self.key):
            raise KeysError(
                f"the key of {self.name!r} holds a character that the header Authorization cannot carry; {_MAKE_ONE}"
            )


def read(path: Path) -> tuple[bytes]:
    """The content of the file.

    Raises:
        KeysError: it cannot be read.
    """
    try:
        return (path.read_bytes(),)
    except OSError as exc:
        raise KeysError(f"GATEWAY_API_KEYS {str(path)!r} cannot be read: {exc.strerror}") from exc


def parse(content: bytes) -> tuple[ApiKey, ...]:
    """Reads the file's content: lines ``name key``, empty lines, and comments after ``#``.

    Raises:
        KeysError: a line is something else, a name or a key comes twice, or there is no key; says the line's number.
    """
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as exc:
        raise KeysError(f"byte {exc.start} of the file of API keys is not ASCII; write lines `name key`") from exc
    keys: list[ApiKey] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise KeysError(f"line {number} of the file of API keys has {len(words)} words, expected `name key`")
        try:
            keys.append(ApiKey(*words))
        except KeysError as exc:
            raise KeysError(f"line {number} of the file of API keys: {exc}") from exc
    _check_distinct(keys)
    return tuple(keys)


def _check_distinct(keys: Sequence[ApiKey]) -> None:
    if not keys:
        raise KeysError(f"the file of API keys holds none: every request would be refused; add `name key`, {_MAKE_ONE}")
    names: set[str] = set()
    owners: dict[str, str] = {}
    for key in keys:
        if key.name in names:
            raise KeysError(f"the file of API keys holds the name {key.name!r} twice; name each key")
        if key.key in owners:
            raise KeysError(f"{owners[key.key]!r} and {key.name!r} have the same API key; give each its own")
        names.add(key.name)
        owners[key.key] = key.name


def nginx_map(keys: Sequence[ApiKey] | None) -> str:
    """The lines of nginx's map from the header Authorization to the key's name; empty: nobody's key.

    Regular expressions, because a map's plain strings ignore the case.

    Args:
        keys: who may come in; None: everybody.
    """
    if keys is None:
        return f"default {ANONYMOUS};"
    lines = [f'"~^(?i:bearer) {re.escape(key.key)}$" {key.name};' for key in keys]
    return "\n".join(['default "";', *lines])
