"""What the gateway writes: nginx's access log on stdout, events and nginx's complaints on stderr, all JSON lines.

nginx's error log quotes requests, and a path or a header may hold a text: what it quotes is taken out here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from datetime import datetime, timezone
from typing import Any, TextIO

# 2026/01/31 12:00:00 [error] 12#12: *34 message, client: 10.0.0.1, server: , request: "…", upstream: "…", host: "…"
_NGINX_LINE = re.compile(r"\S+ \S+ \[(?P<level>\w+)\] \d+#\d+: (?P<request>\*\d+ )?(?P<message>.*)")
_CONTEXT = re.compile(r", (?:client|server|request|subrequest|upstream|host|referrer): .*")
_CLIENT = re.compile(r", client: (?P<client>[0-9A-Fa-f.:]+)")
_UPSTREAM = re.compile(r', upstream: "\w+://(?P<upstream>unix:/[^" ]*\.sock|(?:[0-9.]+|\[[0-9a-f:.]+\]):\d+)')
_REASON = re.compile(r".*\((?P<number>\d{1,4}): (?P<words>[^()]*)\)")  # errno and what the system calls it


class Log:
    """Whole lines to two streams, from any thread.

    Args:
        access: where nginx's access log goes.
        events: where everything else goes.
    """

    def __init__(self, access: TextIO = sys.stdout, events: TextIO = sys.stderr) -> None:
        self._access = access
        self._events = events
        self._lock = threading.Lock()

    def event(self, event: str, level: str = "info", **facts: Any) -> None:
        """One thing that happened."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._write(self._events, json.dumps({"time": now, "level": level, "event": event, **facts}) + "\n")

    def requests(self, lines: bytes) -> None:
        """Lines of nginx's access log."""
        self._write(self._access, lines.decode("utf-8", "replace"))

    def nginx(self, line: str) -> None:
        """A line of nginx's error log."""
        facts = redacted(line)
        self.event("nginx", facts.pop("level"), **facts)

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads any more; requests are answered nevertheless


def redacted(line: str) -> dict[str, str]:
    """What of a line of nginx's error log says nothing of a request's content.

    A line about no request is nginx's own and kept: it quotes the configuration.
    """
    found = _NGINX_LINE.fullmatch(line.strip())
    if found is None or not found["request"]:
        message = line.strip() if found is None else found["message"]
        return {"level": "error" if found is None else found["level"], "message": message}
    message = _unquoted(_CONTEXT.sub("", found["message"]))
    facts = {"level": found["level"], "message": message}
    context = found["message"]
    for name, pattern in (("client", _CLIENT), ("upstream", _UPSTREAM)):
        if value := pattern.search(context):
            facts[name] = value[name]
    return facts


def _unquoted(message: str) -> str:
    """A message up to its first quotation mark, and the system's words for an error behind it.

    nginx quotes without escaping, so nobody can say which mark ends a quotation.
    """
    before, mark, quoted = message.partition('"')
    if not mark:
        return message
    reason = _REASON.match(quoted)
    known = reason is not None and reason["words"] == os.strerror(int(reason["number"]))
    return f'{before}"…"' + (f" ({reason['number']}: {reason['words']})" if reason and known else "")
