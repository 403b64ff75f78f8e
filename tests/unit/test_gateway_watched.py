"""Files that change: the last good meaning is kept, and a bad one is said once."""

from __future__ import annotations

import io
import json

import pytest

from deploy.gateway.errors import KeysError
from deploy.gateway.log import Log
from deploy.gateway.watched import Watched


class File:
    content: bytes | None = b"1"

    def read(self) -> tuple[bytes]:
        if self.content is None:
            raise KeysError("it is gone")
        return (self.content,)


def meaning(content: bytes) -> int:
    if not content.isdigit():
        raise KeysError(f"{content!r} is no number")
    return int(content)


def events(stream: io.StringIO) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [(line["event"], line.get("message", "")) for line in lines]


def test_the_last_good_meaning_is_kept() -> None:
    file, stream = File(), io.StringIO()
    watched = Watched("numbers", file.read, meaning, Log(stream, stream))
    complaints = 0
    for content, expected in ((b"1", 1), (b"2", 2), (b"x", 2), (b"x", 2), (None, 2), (None, 2), (b"3", 3), (b"x", 3)):
        file.content = content
        complaints += watched.look()
        assert watched.meaning == expected
    assert complaints == 3
    assert events(stream) == [
        ("changed", ""),
        ("refused", "b'x' is no number; the old goes on"),
        ("refused", "it is gone; the old goes on"),
        ("changed", ""),
        ("refused", "b'x' is no number; the old goes on"),
    ]


def test_what_failed_for_want_of_a_disk_is_tried_again() -> None:
    file, full = File(), [False]

    def parse(content: bytes) -> int:
        if full[0]:
            raise OSError("no space left")
        return meaning(content)

    watched = Watched("numbers", file.read, parse, Log(io.StringIO(), io.StringIO()))
    file.content, full[0] = b"2", True
    with pytest.raises(OSError, match="no space left"):
        watched.look()
    full[0] = False
    watched.look()
    assert watched.meaning == 2


def test_the_first_one_must_be_good() -> None:
    file = File()
    file.content = b"x"
    with pytest.raises(KeysError):
        Watched("numbers", file.read, meaning, Log(io.StringIO(), io.StringIO()))
