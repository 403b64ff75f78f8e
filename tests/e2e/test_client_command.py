"""``bert-triton`` against the real Triton: what it prints where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server import TritonServer
from tests.e2e import client_models

COMMAND = [sys.executable, "-m", "bert_triton_client"]


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = client_models.write(tmp_path_factory.mktemp("client_command"))
    return module_server_factory(repository, backends=backends)


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server: TritonServer) -> str:
    return client_models.url(server, request.param)


def run(url: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, "BERT_TRITON_URL": url, "PYTHONIOENCODING": "utf-8"},
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_texts_as_arguments(url: str) -> None:
    status, out, err = run(url, "classify", "fine", "really good\x1b[31m\nü")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "fine 0.750  fine"
    assert lines[1].endswith(r"0.750  really good\x1b[31m\nü")


def test_json_is_an_object_a_line(url: str) -> None:
    _, out, _ = run(url, "classify", "--json", "good", "bäd")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"text": text, "label": text, "score": 0.75, "probabilities": [0.25, 0.75]} for text in ("good", "bäd")
    ]


def test_lines_of_standard_input_and_a_bad_one_does_not_lose_the_others(url: str) -> None:
    status, out, err = run(url, "classify", "-", stdin=b"one\r\n\n\xff\nlast")
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()] == ["one", "last"]
    assert "text 2: no tokens" in err
    assert "text 3: cannot be encoded" in err
    status, out, _ = run(url, "classify", "--json", "-", stdin=b"one\n\n")
    assert status == 1
    assert [list(json.loads(line)) for line in out.splitlines()] == [
        ["text", "label", "score", "probabilities"],
        ["text", "error"],
    ]


def test_files(url: str, tmp_path: Path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_text("".join(f"text{i}\n" for i in range(300)))
    status, out, _ = run(url, "classify", "--file", str(lines))
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [f"text{i}" for i in range(300)]
    table = tmp_path / "texts.csv"
    table.write_text('id,review\n1,"good, really"\n2,bad\n')
    status, out, _ = run(url, "classify", "--json", "--file", str(table), "--text-column", "review")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["good, really", "bad"]
    status, _, err = run(url, "classify", "--file", str(table))
    assert status == 1
    assert "review" in err
    status, _, err = run(url, "classify", "--file", str(tmp_path / "none.txt"))
    assert status == 1
    assert "none.txt" in err


def test_models_health_and_stats(url: str) -> None:
    status, out, _ = run(url, "models", "--json")
    assert status == 0
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert rows["sentiment"]["state"] == "READY"
    assert (rows["sentiment"]["task"], rows["sentiment_tensors"]["task"]) == ("text-classification", "tensors")
    _, out, _ = run(url, "models")
    assert out.splitlines()[0].split() == ["name", "version", "state", "task", "tensor_model", "reason"]
    status, out, _ = run(url, "health")
    assert status == 0
    assert "live, ready" in out
    status, out, err = run(url, "health", "--model", "nope")
    assert status == 1
    assert "NOT ANSWERED" in out
    assert "unknown model" in err
    _, out, _ = run(url, "stats", "--json")
    statistics = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert statistics["sentiment"]["requests"] > 0
    assert statistics["sentiment"]["mean_batch_size"] >= 1


def test_errors_are_one_line(url: str) -> None:
    status, out, err = run(url, "classify", "a", "--model", "nope")
    assert (status, out) == (1, "")
    assert err.startswith("bert-triton: ")
    assert err.count("\n") == 1
    status, _, err = run(url, "classify", "sleep 1", "--timeout-s", "0.2")
    assert status == 1
    assert "within 0.2 s" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["classify"],
        ["classify", "a", "--file", "b"],
        ["classify", "a", "--url", "localhost:8001"],
        ["classify", "a", "--timeout-s", "0"],
        ["classify", "a", "--mod", "sentiment"],
        ["unknown"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    status, out, err = run("grpc://localhost:9", *arguments)
    assert (status, out) == (2, "")
    assert "usage: bert-triton" in err


def test_a_bad_environment_value_is_an_error_and_the_flag_wins(url: str) -> None:
    status, _, err = run("localhost", "classify", "a")
    assert status == 2
    assert "BERT_TRITON_URL" in err
    assert run("localhost", "classify", "a", "--url", url)[0] == 0


def test_a_closed_pipe_and_ctrl_c_end_quietly(url: str) -> None:
    script = f"yes good | {sys.executable} -m bert_triton_client classify - --url {url} | head -2"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.split() == ["good", "0.750", "good"] * 2
    assert done.stderr == ""

    process = subprocess.Popen(
        [*COMMAND, "classify", "-", "--url", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"good\n" * 5000)
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == b"bert-triton: interrupted\n"
