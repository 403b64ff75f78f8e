"""The client's distribution alone: what it brings in, what it imports, and how fast it is there."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY_ROOT

HEAVY = {
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "tokenizers",
    "numpy",
    "grpc",
    "tritonclient",
    "aiohttp",
    "gevent",
}


def python(executable: Path | str, code: str) -> str:
    done = subprocess.run([str(executable), "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(executable: Path) -> list[str]:
    return [sys.executable, "-m", "pip", "--python", str(executable), "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def lone_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with nothing but the client in it."""
    folder = tmp_path_factory.mktemp("lone")
    # A copy, because a build writes beside its sources.
    ignore = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY_ROOT / "client", folder / "client", ignore=ignore)
    # This environment's pip installs into it: a pip of its own takes longer than the client.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=120)
    executable = folder / "venv" / "bin" / "python"
    install = [*pip(executable), "install", "-q", "--prefer-binary", "--no-compile"]
    constraints = REPOSITORY_ROOT / "constraints.txt"
    pins = ["-c", str(constraints)] if constraints.exists() else []
    done = subprocess.run(
        [*install, *pins, str(folder / "client")], capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode and "Could not find a version" in done.stderr:
        pytest.skip(f"pip cannot reach a package index or its cache; run with one: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return executable


def test_it_installs_alone_and_without_anything_heavy(lone_python: Path) -> None:
    listed = subprocess.run(
        [*pip(lone_python), "list", "--format=json"],
        capture_output=True,
        check=True,
        timeout=200,
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"bert-triton-client", "tritonclient", "numpy"} <= names
    assert not names & {"torch", "transformers", "tokenizers", "onnx", "onnxruntime", "pytriton", "nvidia-pytriton"}
    assert python(lone_python, "import bert_triton_client; print(bert_triton_client.__file__)").startswith(
        str(lone_python.parents[1])
    )


def test_alone_it_speaks_both_protocols(lone_python: Path) -> None:
    code = """
import asyncio
from bert_triton_client import AsyncClient, Client, ServerUnreachableError

async def ask(url):
    async with AsyncClient(url, max_retries=0) as client:
        await client.classify("a")

def ask_blocking(url):
    with Client(url, max_retries=0) as client:
        client.classify("a")

for url in ("grpc://127.0.0.1:9", "http://127.0.0.1:9"):
    for call in (ask_blocking, lambda url: asyncio.run(ask(url))):
        try:
            call(url)
        except ServerUnreachableError:
            print("typed")
"""
    assert python(lone_python, code).split() == ["typed"] * 4


def test_alone_its_command_works(lone_python: Path) -> None:
    command = lone_python.parent / "bert-triton"
    done = subprocess.run([str(command), "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "classify" in done.stdout


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, bert_triton_client, bert_triton_client.__main__; print(*sys.modules)"
    modules = {module.split(".")[0] for module in python(sys.executable, code).split()}
    assert not modules & HEAVY


def test_help_is_instant() -> None:
    def seconds(*arguments: str) -> float:
        """Of CPU, which does not depend on what else runs."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, timeout=200)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = min(seconds("-c", "pass") for _ in range(5))
    assert min(seconds("-m", "bert_triton_client", "--help") for _ in range(5)) < bare + 0.25


def test_a_blocking_http_client_needs_no_grpc() -> None:
    code = """
import sys
from bert_triton_client import Client
Client("http://localhost").close()
print(*sys.modules)
"""
    assert not set(python(sys.executable, code).split()) & {"grpc", "aiohttp", "gevent", "numpy"}
