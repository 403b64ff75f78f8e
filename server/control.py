"""How a running ``python -m server`` is told to serve other versions: a socket in a folder, and what it remembers.

    <folder>/control.sock      one JSON line in, one out; only processes of the same user, or root, are answered
    <folder>/withdrawn.json    {model: [versions that were rolled back from]}: a restart must not serve them again

A socket, and not Triton's own API: nobody on the network can load a model then (`server.restrictions`), and what is
loaded has been verified. Without ``--control`` there is no socket, and Triton itself refuses to change anything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from server.errors import ControlError, ServerError

SOCKET_FILE = "control.sock"
WITHDRAWN_FILE = "withdrawn.json"
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
        with connection, contextlib.suppress(OSError):  # nobody waits for the answer any more
            connection.settimeout(LINE_TIMEOUT_S)
            try:
                _check_peer(connection)
                reply: dict[str, Any] = {"ok": True, "lines": handler(_read(connection))}
            except ServerError as exc:
                reply = {"ok": False, "lines": [exc.message]}
            connection.sendall(json.dumps(reply).encode() + b"\n")

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
    except ValueError as exc:
        raise ControlError(f"expected a line of JSON, received {line[:80]!r}") from exc
    if not isinstance(message, dict):
        raise ControlError(f"expected a JSON object, received {line[:80]!r}")
    return message


def read_withdrawn(folder: Path) -> dict[str, set[int]]:
    """The versions, by model, that were rolled back from.

    Raises:
        ControlError: they cannot be read. Served again by mistake they would do what they were rolled back for.
    """
    path = folder / WITHDRAWN_FILE
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return {str(model): {int(version) for version in versions} for model, versions in written.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise ControlError(f"{path} cannot be read: {exc}; correct it, or remove it to serve every version") from exc


def write_withdrawn(folder: Path, withdrawn: Mapping[str, Iterable[int]]) -> None:
    """Keeps what `read_withdrawn` reads, as one step.

    Raises:
        ControlError: it cannot be written.
    """
    path = folder / WITHDRAWN_FILE
    text = json.dumps({model: sorted(versions) for model, versions in sorted(withdrawn.items()) if versions}, indent=1)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        raise ControlError(f"{path} cannot be written: {exc}; nothing was changed") from exc
