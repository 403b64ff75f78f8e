"""What the READMEs show runs: their Python against the served demo, their commands by the real programs' parsers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.__main__ import parser as export_parser
from finetune.__main__ import parser as finetune_parser
from loadtest.__main__ import parsed as loadtest_parsed
from server import TritonServer
from server.options import parser as server_parser
from tests.conftest import REPOSITORY_ROOT

READMES = ("README.md", "client/README.md", "loadtest/README.md")
SERVER_URLS = re.compile(r"(grpc|http)://localhost:800[01]")
# `python -m <folder>` -> what reads its words. `server` leaves what follows -- to Triton.
READERS: dict[str, Callable[[list[str]], object]] = {
    "export": lambda words: export_parser().parse_args(words),
    "finetune": lambda words: finetune_parser().parse_args(words),
    "server": lambda words: server_parser().parse_args(words),
    "loadtest": loadtest_parsed,
}


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for name in READMES:
        text = (REPOSITORY_ROOT / name).read_text()
        found += [
            (name, block) for block in re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        ]
    return found


def commands() -> list[str]:
    """Every command line after a `$` prompt, continued lines joined."""
    joined = "\n".join(block.replace("\\\n", " ") for _, block in blocks("console"))
    lines = [line.strip()[2:].split("#")[0].strip() for line in joined.splitlines() if line.strip().startswith("$ ")]
    return [part.strip() for line in lines for part in line.split("&&")]


def test_the_readmes_show_commands_and_python() -> None:
    assert any(line.startswith("bert-triton classify") for line in commands())
    assert any(line.startswith("python -m export") for line in commands())
    assert blocks("python")


@pytest.mark.parametrize(("readme", "block"), blocks("python"))
def test_python_in_a_readme_runs(demo_server: TritonServer, readme: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "reviews.txt").write_text("So good.\nSo bad.\n")
    urls = {"grpc": demo_server.grpc_url, "http": demo_server.http_url}
    code = SERVER_URLS.sub(lambda match: urls[match[1]], block)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{readme}: {done.stderr}"


def test_bert_triton_commands_run(demo_server: TritonServer) -> None:
    environment = {**os.environ, "BERT_TRITON_URL": demo_server.grpc_url}
    shown = [line for line in commands() if line.startswith("bert-triton")]
    for line in shown:
        # The user's own model is the demo's here.
        words = ["sentiment" if word == "reviews" else word for word in shlex.split(line)]
        done = subprocess.run(
            [sys.executable, "-m", "bert_triton_client", *words[1:]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout.strip()


def test_the_answers_shown_are_the_answers_given(demo_server: TritonServer) -> None:
    """Labels to the letter; scores to the 0.02 that INT8 kernels of another processor may move them."""
    first = blocks("console")[0][1]
    question = next(line for line in first.splitlines() if line.startswith("$ bert-triton"))
    shown = re.findall(r"^(\w+) (\d\.\d+)  (.+)$", first, re.MULTILINE)
    assert len(shown) == 2
    done = subprocess.run(
        [sys.executable, "-m", "bert_triton_client", *shlex.split(question)[2:]],
        env={**os.environ, "BERT_TRITON_URL": demo_server.grpc_url},
        capture_output=True,
        text=True,
        check=True,
    )
    given = re.findall(r"^(\w+) (\d\.\d+)  (.+)$", done.stdout, re.MULTILINE)
    assert [(label, text) for label, _, text in given] == [(label, text) for label, _, text in shown]
    assert [float(score) for _, score, _ in given] == pytest.approx([float(score) for _, score, _ in shown], abs=0.02)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("python -m")])
def test_python_commands_have_flags_that_exist(line: str) -> None:
    _, _, program, *words = shlex.split(line)
    ours = words[: words.index("--")] if "--" in words else words
    READERS[program](ours)


def test_make_targets_exist() -> None:
    text = "\n".join((REPOSITORY_ROOT / name).read_text() for name in READMES)
    targets = set(re.findall(r"`make ([a-z-]+)`", text)) | {
        line.split()[1] for line in commands() if line.startswith("make ")
    }
    known = set(re.findall(r"^([a-z-]+):", (REPOSITORY_ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= known
    assert {"demo", "run"} <= targets
