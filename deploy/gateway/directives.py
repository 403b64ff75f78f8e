"""nginx's configuration language, as far as it is needed: directives are lines, blocks have a head and lines."""

from __future__ import annotations

from collections.abc import Iterable


def block(head: str, lines: Iterable[str]) -> list[str]:
    """A block and what is in it."""
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]


def mapping(source: str, target: str, lines: Iterable[str]) -> list[str]:
    """The variable ``target``, looked up by ``source``."""
    return block(f"map {source} {target}", lines)


def condition(test: str, status: int) -> list[str]:
    """Refuses what meets a test."""
    return block(f"if ({test})", [f"return {status};"])
