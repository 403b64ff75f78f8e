"""How a running ``python -m server`` is given orders: ``<folder>/control.sock``, one JSON line in, one out.

Only processes of the same user, or root, are answered. A socket, and not Triton's own API: nobody on the network can
load a model then (`server.restrictions`), and what is loaded has been verified. Without ``--control`` there is no
socket, and Triton itself refuses to change anything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.errors import ControlError, ServerError

SOCKET_FILE = "control.sock"
MAX_LINE_BYTES = 64 << 10
LINE_TIMEOUT_S = 5.0
MAX_PATH_BYTES = 107  # of a Unix socket, on Linux
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: see SO_PEERCRED in socket(7)

Handler = Callable[[Mapping[str, Any]], list[str]]


class Control:
    """The server's end of the socket. Closed with `close`.

    Args:
        folder: made if it is missing.

    Raises:
        ControlError: another server uses it, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = _path(folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(folder)
            if path.exists():
                _remove_left_over(path)
            self._listening = socket.socket(socket.AF_UNIX)
            old_mask = os.umask(0o177)
            try:
                self._listening.bind(str(path))
            finally:
                os.umask(old_mask)
            self._listening.listen()
        except OSError as exc:
            raise ControlError(f"--control {folder} cannot be used: {exc}; give a folder that can be written") from exc
        self._listening.setblocking(False)
        self._path = path

    def fileno(self) -> int:
        """For select: readable when somebody asks."""
        return self._listening.fileno()

    def answer(self, handler: Handler) -> None:
        """Has ``handler`` answer whoever is asking at this moment; does not wait for anybody to ask."""
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return  # nobody, or gone again
        with connection:
            try:
                connection.settimeout(LINE_TIMEOUT_S)
                _check_peer(connection)
                order = _read(connection)
            except OSError:
                return  # gone, or silent
            except ControlError as exc:
                _reply(connection, [exc.message], ok=False)
                return
            try:
                _reply(connection, handler(order), ok=True)
            except ServerError as exc:
                _reply(connection, [exc.message], ok=False)

    def close(self) -> None:
        """Ends it; safe to call twice."""
        self._listening.close()
        self._path.unlink(missing_ok=True)


def ask(folder: Path, order: Mapping[str, Any], timeout_s: float) -> list[str]:
    """Tells the server of ``folder`` something; returns its answer.

    Raises:
        ControlError: nobody answers, or the server refuses; with its words.
    """
    path = _path(folder)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(json.dumps(order).encode() + b"\n")
            reply = _read(connection)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise ControlError(
            f"no server takes orders at {path}; start one with `python -m server --control {folder}`, "
            "or give the --control of the one that runs"
        ) from exc
    except TimeoutError as exc:
        raise ControlError(f"no answer within {timeout_s:g} s; the server's log says how far it is") from exc
    except OSError as exc:
        raise ControlError(f"cannot speak to the server at {path}: {exc}; run this as the server's user") from exc
    lines = [str(line) for line in reply.get("lines", [])]
    if not reply.get("ok"):
        raise ControlError("; ".join(lines) or "the server did not answer")
    return lines


def _path(folder: Path) -> Path:
    path = folder.absolute() / SOCKET_FILE
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ControlError(f"--control {folder}: the path of its socket is too long, at most {MAX_PATH_BYTES} bytes")
    return path


def _reply(connection: socket.socket, lines: list[str], *, ok: bool) -> None:
    with contextlib.suppress(OSError):  # nobody waits for the answer any more
        connection.sendall(json.dumps({"ok": ok, "lines": lines}).encode() + b"\n")


def _check_owner(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise ControlError(
            f"--control {folder}: others can write that folder, and what lies there decides what is served; give one "
            f"that is not there yet, or only yours (chmod 700)"
        )


def _remove_left_over(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError as exc:
            if exc.errno in (errno.ECONNREFUSED, errno.ENOENT):
                path.unlink(missing_ok=True)  # of a server that was killed
                return
            raise
    raise ControlError(f"another server takes orders at {path}; end it, or give each its own --control")


def _check_peer(connection: socket.socket) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(raw)[1]
    if uid not in (os.geteuid(), 0):
        raise ControlError(f"user {uid} may not give orders, only {os.geteuid()} and root")


def _read(connection: socket.socket) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
        received = connection.recv(MAX_LINE_BYTES)
        if not received:
            break
        line += received
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ControlError(f"expected a line of JSON, received {line[:80]!r}") from exc
    if not isinstance(message, dict):
        raise ControlError(f"expected a JSON object, received {line[:80]!r}")
    return message
