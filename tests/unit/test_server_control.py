"""The socket through which a server is told something, and what it remembers."""

from __future__ import annotations

import select
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.control.unix_socket import SOCKET_FILE, Control, ask
from server.control.withdrawn import WITHDRAWN_FILE, read_withdrawn, write_withdrawn
from server.errors import ChangeError, ControlError
from server.subcommands import main

TIMEOUT_S = 20.0


@contextmanager
def answering(folder: Path, handler: Callable[[Mapping[str, Any]], list[str]]) -> Iterator[None]:
    """A server's main loop, in a thread."""
    ended = threading.Event()
    with closing(Control(folder)) as controlled:

        def serve() -> None:
            while not ended.is_set():
                select.select([controlled], [], [], 0.05)
                controlled.answer(handler)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def test_orders_are_answered_and_refusals_keep_their_words(tmp_path: Path) -> None:
    def handler(order: Mapping[str, Any]) -> list[str]:
        if order["order"] == "reload":
            raise ChangeError("other labels")
        return [f"{order['order']} {order['model']}", "done"]

    with answering(tmp_path, handler):
        assert ask(tmp_path, {"order": "rollback", "model": "a"}, TIMEOUT_S) == ["rollback a", "done"]
        with pytest.raises(ControlError, match=r"^other labels$"):
            ask(tmp_path, {"order": "reload"}, TIMEOUT_S)
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(tmp_path / SOCKET_FILE))
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"expected a line of JSON" in rude.recv(1000)
        with socket.socket(socket.AF_UNIX) as deep:
            deep.connect(str(tmp_path / SOCKET_FILE))
            deep.sendall(b"[" * 60_000 + b"\n")
            assert b"expected a line of JSON" in deep.recv(1000)
        assert ask(tmp_path, {"order": "still", "model": "b"}, TIMEOUT_S)[0] == "still b"


def test_the_socket_is_its_owners(tmp_path: Path) -> None:
    with closing(Control(tmp_path / "new")):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "new" / SOCKET_FILE).stat().st_mode) & 0o077 == 0


def test_one_server_a_folder_but_a_killed_one_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with closing(Control(tmp_path)), pytest.raises(ControlError, match="another server takes orders"):
        Control(tmp_path)
    assert not (tmp_path / SOCKET_FILE).exists()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / SOCKET_FILE))
    Control(tmp_path).close()


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(ControlError, match=r"shared: others can write that folder, and what lies there decides what"):
        Control(tmp_path / "shared")


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"no server takes orders at .*control\.sock; start one with"):
        ask(tmp_path, {}, TIMEOUT_S)
    with pytest.raises(ControlError, match="too long, at most 107 bytes"):
        ask(tmp_path / ("x" * 110), {}, TIMEOUT_S)


def test_the_command_prints_answers_and_ends_with_one_where_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BERT_TRITON_CONTROL", raising=False)
    assert main(["versions"]) == 1
    assert "which server? give its --control, or set BERT_TRITON_CONTROL" in capsys.readouterr().err
    monkeypatch.setenv("BERT_TRITON_CONTROL", str(tmp_path))
    orders: list[Mapping[str, Any]] = []

    def handler(order: Mapping[str, Any]) -> list[str]:
        orders.append(order)
        return ["sentiment: 2 -> 1"]

    with answering(tmp_path, handler):
        assert main(["rollback", "sentiment", "--to", "1"]) == 0
    assert capsys.readouterr().out == "sentiment: 2 -> 1\n"
    assert orders == [{"order": "rollback", "model": "sentiment", "to": 1}]
    assert main(["reload"]) == 1
    assert "server: error: no server takes orders" in capsys.readouterr().err


def test_what_was_rolled_back_from_is_remembered(tmp_path: Path) -> None:
    assert read_withdrawn(tmp_path) == {}
    write_withdrawn(tmp_path, {"sentiment": {3, 2}, "topic": set()})
    assert read_withdrawn(tmp_path) == {"sentiment": {2, 3}}
    (tmp_path / WITHDRAWN_FILE).write_text("[1]")
    with pytest.raises(ControlError, match="correct it, or remove it"):
        read_withdrawn(tmp_path)
