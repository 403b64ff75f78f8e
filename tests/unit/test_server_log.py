"""Reasons read from logs as Triton 2.51 wrote them."""

from __future__ import annotations

import io
import os
import pickle
import threading
import time

import pytest

import server.log
from server.endpoints import Endpoints
from server.errors import ModelError, OptionError, PortError, StartError
from server.log import Log, failed_models, failure, is_tritons, refusal

ENDPOINTS = Endpoints("127.0.0.1", 18100, 18101, 18102)
VERSION = (
    "E1122 00:13:04.832484 11546 model_lifecycle.cc:642] \"failed to load 'bad' version 1: Internal: "
    "ModuleNotFoundError: No module named 'nothere'\\n\\nAt:\\n  /b/bad/model.py(1): <module>\\n\""
)
LIFECYCLE = "I1122 00:13:04.832524 11546 model_lifecycle.cc:777] \"failed to load 'bad'\""
POLICY = (
    "E1122 00:13:11.330491 11867 model_repository_manager.cc:724] \"failed to load model 'echo': at least one version "
    "must be available under the version policy of model 'echo'\""
)
PROTOBUF = (
    "[libprotobuf ERROR /tmp/text_format.cc:337] "
    "Error parsing text-format inference.ModelConfig: 1:15: Unexpected end of string."
)
POLL = (
    "E1122 00:15:45.928655 13700 model_repository_manager.cc:1460] \"Poll failed for model directory 'cut': "
    'failed to read text proto from /r3/cut/config.pbtxt"'
)
SOCKET = (
    'E1122 00:13:19.487344 12427 main.cc:293] "failed to start {service} service: Unavailable - '
    "Socket '127.0.0.1:{port}' already in use \""
)
CREATING = "error: creating server: Internal - failed to load all models"
BAD_FLAG = "/site-packages/pytriton/tritonserver/bin/tritonserver: unrecognized option '--nonsense=3'"


def test_a_refused_model_is_named_with_the_reason_in_one_line() -> None:
    error = failure([VERSION, LIFECYCLE, CREATING], 1, ENDPOINTS)
    assert isinstance(error, ModelError)
    assert error.message == (
        "Triton refused a model: bad version 1: Internal: ModuleNotFoundError: No module named 'nothere'"
    )
    assert CREATING in str(error), "the log's tail belongs to the error too"


def test_every_refused_model_is_named() -> None:
    assert failed_models([VERSION, POLICY, PROTOBUF, POLL]) == {
        "bad": "version 1: Internal: ModuleNotFoundError: No module named 'nothere'",
        "echo": "at least one version must be available under the version policy of model 'echo'",
        "cut": "failed to read text proto from /r3/cut/config.pbtxt (1:15: Unexpected end of string.)",
    }


@pytest.mark.parametrize(("service", "port"), [("HTTP", 18100), ("GRPC", 18101), ("Metrics", 18102)])
def test_a_taken_port_is_named_with_its_flag(service: str, port: int) -> None:
    error = failure([SOCKET.format(service=service, port=port)], 1, ENDPOINTS)
    assert isinstance(error, PortError)
    assert f"port {port}" in error.message
    assert f"--{service.lower()}-port" in error.message


@pytest.mark.parametrize(
    ("line", "flag"), [(BAD_FLAG, "--nonsense=3"), ('Bad option: "--log-verbose".', "--log-verbose")]
)
def test_a_flag_that_triton_does_not_take_is_a_usage_error(line: str, flag: str) -> None:
    error = failure(["Usage: tritonserver [options]", line], 1, ENDPOINTS)
    assert isinstance(error, OptionError)
    assert flag in error.message


def test_other_ends_say_what_is_known() -> None:
    assert "failed to load all models" in failure([CREATING], 1, ENDPOINTS).message
    assert "killed by SIGSEGV" in failure(["Signal (11)"], -11, ENDPOINTS).message


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(StartError("a line", "the log")))  # noqa: S301 -- our own
    assert (error.message, error.log_tail, str(error)) == ("a line", "the log", "a line\nthe log")


def test_log_reaches_the_sink_unchanged_and_its_end_is_kept() -> None:
    read, write = os.pipe()
    sink = io.BytesIO()
    log = Log(os.fdopen(read, "rb"), sink)
    os.write(write, b"one\n\xfftwo\nthree")
    os.close(write)
    log.join()
    assert sink.getvalue() == b"one\n\xfftwo\nthree"
    assert log.lines() == ["one", "�two", "three"]
    assert log.tail(1) == "three"


def test_log_is_drained_when_nobody_reads_the_sink() -> None:
    sink = io.BytesIO()
    sink.close()
    read, write = os.pipe()
    log = Log(os.fdopen(read, "rb"), sink)
    os.write(write, b"one\n")
    os.close(write)
    log.join()
    assert log.lines() == ["one"]


def test_why_a_model_was_refused_is_read_from_what_came_since() -> None:
    read, write = os.pipe()
    log = Log(os.fdopen(read, "rb"), io.BytesIO())
    os.write(write, f"{VERSION}\n".encode())
    while log.count < 1:
        time.sleep(0.01)
    assert (log.since(0), log.since(1)) == ([VERSION], [])
    later = f"other\n{VERSION.replace('nothere', 'again')}\n".encode()
    threading.Timer(0.1, os.write, (write, later)).start()
    assert refusal(log, 1, "bad").endswith("No module named 'again'"), "waited for, and the earlier one is past"
    os.close(write)
    log.join()


def test_what_the_log_does_not_say_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.log, "REFUSAL_TIMEOUT_S", 0.0)
    read, write = os.pipe()
    log = Log(os.fdopen(read, "rb"), io.BytesIO())
    os.close(write)
    log.join()
    assert refusal(log, 0, "bad") == "its log says why"


@pytest.mark.parametrize("line", [VERSION, POLL, "2024-11-22T09:41:19Z I 5857 cache_manager.cc:480] ..."])
def test_tritons_own_lines_are_told_from_what_it_prints_before(line: str) -> None:
    assert is_tritons(line)
    assert not any(map(is_tritons, [BAD_FLAG, CREATING, PROTOBUF, "Usage: tritonserver [options]"]))
