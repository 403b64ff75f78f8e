"""Imports point one way; heavy libraries stay where they belong. Read from the source, not from a run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY_ROOT

# What a folder may import of this project, beside itself.
ALLOWED: dict[str, set[str]] = {
    "client/bert_triton_client": set(),
    "backends": set(),
    "export": {"bert_triton_client"},
    "finetune": {"bert_triton_client"},
    "server": {"bert_triton_client"},
    "loadtest": {"bert_triton_client"},
    "demo": {"bert_triton_client", "server", "finetune"},
    "deploy": {"bert_triton_client"},
    "bench": {"bert_triton_client", "server", "demo", "backends"},
}
PROJECT_PACKAGES = {
    "bert_triton_client",
    "export",
    "finetune",
    "server",
    "demo",
    "bench",
    "loadtest",
    "deploy",
    "backends",
}
# Installed inside Triton: nothing else may be imported there.
INSIDE_TRITON = {"numpy", "tokenizers", "onnxruntime", "openvino", "triton_python_backend_utils"}


def imported_packages(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def imports_of(folder: Path) -> dict[str, set[str]]:
    return {
        str(file.relative_to(REPOSITORY_ROOT)): set(imported_packages(file)) for file in sorted(folder.rglob("*.py"))
    }


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_stands_below_it(folder: str) -> None:
    imports = imports_of(REPOSITORY_ROOT / folder)
    assert imports, f"{folder} holds no Python file"
    allowed = ALLOWED[folder] | {Path(folder).name}
    wrong = {file: names & PROJECT_PACKAGES - allowed for file, names in imports.items()}
    assert not {file: names for file, names in wrong.items() if names}


@pytest.mark.parametrize("backend", ["bert_text", "onnxruntime", "openvino"])
def test_a_backend_imports_only_what_is_inside_triton(backend: str) -> None:
    folder = REPOSITORY_ROOT / "backends" / backend
    siblings = {file.stem for file in folder.glob("*.py")}
    for file, names in imports_of(folder).items():
        assert names <= INSIDE_TRITON | siblings | set(sys.stdlib_module_names), file


@pytest.mark.parametrize("file", sorted((REPOSITORY_ROOT / "backends").rglob("*.py")), ids=lambda file: file.stem)
def test_backends_parse_as_python_3_10(file: Path) -> None:
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_the_contract_is_standard_library_only() -> None:
    contract = REPOSITORY_ROOT / "client/bert_triton_client/contract.py"
    assert set(imported_packages(contract)) <= set(sys.stdlib_module_names)


def test_tritonclient_is_imported_in_one_module() -> None:
    imports = imports_of(REPOSITORY_ROOT / "client/bert_triton_client")
    assert [file for file, names in imports.items() if "tritonclient" in names] == [
        "client/bert_triton_client/grpc_transports.py"
    ]
