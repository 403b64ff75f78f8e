"""``parameters`` of a model's config, read as the C++ backend reads them."""

from __future__ import annotations

from typing import Any

from .errors import LoadError

BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def string(config: dict[str, Any], key: str) -> str | None:
    """The string value of a parameter; None when it is not set."""
    value = config.get("parameters", {}).get(key)
    return None if value is None else str(value.get("string_value", ""))


def boolean(value: str, key: str) -> bool:
    """Parse a boolean.

    Raises:
        LoadError: it is not one of `BOOLEANS`, whatever its case.
    """
    if value.lower() not in BOOLEANS:
        raise LoadError(f"parameter {key} is {value!r}; expected one of {', '.join(BOOLEANS)}")
    return BOOLEANS[value.lower()]


def integer(value: str, key: str) -> int:
    """Parse a whole number.

    Raises:
        LoadError: it is not one.
    """
    try:
        return int(value)
    except ValueError:
        raise LoadError(f"parameter {key} is {value!r}; expected a whole number") from None
