"""A file, or several, whose content means something: read again and again, the last good meaning is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .errors import GatewayError
from .log import Log

Meaning = TypeVar("Meaning")


class Watched(Generic[Meaning]):
    """The meaning of files that somebody may change at any time.

    Args:
        what: for the log.
        read: the files' content.
        parse: what it means.
        log: where a bad content is complained about, once.

    Raises:
        GatewayError: the first content is bad: there is no good one to keep.
    """

    def __init__(
        self, what: str, read: Callable[[], tuple[bytes, ...]], parse: Callable[..., Meaning], log: Log
    ) -> None:
        self._what = what
        self._read = read
        self._parse = parse
        self._log = log
        self._content = read()
        self._complaint = ""
        self.meaning = parse(*self._content)

    def look(self) -> bool:
        """Reads again; `meaning` is another one if the files changed and are good.

        Returns:
            Whether something was complained about just now.
        """
        try:
            content = self._read()
            if content != self._content:
                self.meaning = self._parse(*content)
                self._content = content  # not before: what failed for another reason than the content is tried again
                self._log.event("changed", what=self._what)
        except GatewayError as exc:
            if str(exc) == self._complaint:
                return False
            self._complaint = str(exc)
            self._log.event("refused", "error", what=self._what, message=f"{exc}; the old goes on")
            return True
        self._complaint = ""
        return False
