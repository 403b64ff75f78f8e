"""What the benchmark starts: servers, environments, the kit's repository."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from bench.compare import environment as environments
from bench.compare.contestant import Unavailable
from bench.compare.http_client import HttpError, JsonClient
from bench.compare.kit import layout
from bench.compare.server_process import free_port, serving

SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps({"label": body["text"].upper(), "from": self.client_address[1]}).encode()
        self.send_response(200 if body["text"] != "bad" else 500)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_waited_for_asked_over_one_connection_and_ended() -> None:
    port = free_port()
    client = JsonClient("127.0.0.1", port)
    with serving([sys.executable, "-c", SERVER, str(port)], lambda: client.post("/", {"text": "x"})) as pid:
        answers = [client.post("/", {"text": text}) for text in ("a", "b")]
        assert [answer["label"] for answer in answers] == ["A", "B"]
        assert len({answer["from"] for answer in answers}) == 1
        with pytest.raises(HttpError, match="500"):
            client.post("/", {"text": "bad"})
        client.close()
    assert not psutil.pid_exists(pid)


def test_a_server_that_ends_is_unavailable_with_its_last_words() -> None:
    def answers() -> None:
        raise OSError("refused")

    with (
        pytest.raises(Unavailable, match="exit status 3: no such flag"),
        serving([sys.executable, "-c", "import sys; print('no such flag'); sys.exit(3)"], answers),
    ):
        pass


def test_an_environment_that_pip_cannot_make_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "envs")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no such requirement ==\n")
    made: list[list[str]] = []

    class Done:
        returncode = 0

    def run(command: list[str], **options: object) -> Done:
        made.append(command)
        if "venv" not in command:
            options["stdout"].write("ERROR: Invalid requirement\n")  # type: ignore[attr-defined]
            return type("Failed", (), {"returncode": 1})()
        return Done()

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(Unavailable, match=r"cannot install requirements.txt: ERROR: Invalid requirement"):
        environments.environment("x", requirements)
    assert not (tmp_path / "envs/x").exists()


@pytest.mark.parametrize("max_batch_size", [0, 16])
def test_the_kits_configs_are_configs(tmp_path: Path, max_batch_size: int) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "tokenizer.json").write_text("{}")
    layout.write(tmp_path / "repository", tmp_path / "model.onnx", checkpoint, 2, max_batch_size)
    configs = {
        name: text_format.Parse((tmp_path / "repository" / name / "config.pbtxt").read_text(), ModelConfig())
        for name in (layout.MODEL, layout.TOKENIZER, layout.ENSEMBLE)
    }
    assert all(config.name == name for name, config in configs.items())
    assert {config.max_batch_size for config in configs.values()} == {max_batch_size}
    assert configs[layout.MODEL].HasField("dynamic_batching") == bool(max_batch_size)
    assert list(configs[layout.MODEL].input[0].dims) == ([-1] if max_batch_size else [-1, -1])
    steps = configs[layout.ENSEMBLE].ensemble_scheduling.step
    assert [step.model_name for step in steps] == [layout.TOKENIZER, layout.MODEL]
    assert dict(steps[0].output_map) == dict(steps[1].input_map)
    assert (tmp_path / "repository" / layout.TOKENIZER / "1/tokenizer.json").exists()
