"""The command line: strict, quick to explain itself, and in step with what it stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export import gates, quantize
from export.__main__ import GATES, RECIPES, main, parser, request_of
from export.errors import UsageError
from export.request import ExportRequest

REPOSITORY_ROOT = Path(__file__).parents[2]


def test_choices_are_those_of_the_modules() -> None:
    assert GATES == gates.GATES
    assert tuple(quantize.RECIPES) == RECIPES


def test_help_does_not_load_what_exporting_needs() -> None:
    code = (
        "import sys; from export.__main__ import parser; parser().format_help(); "
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY_ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--name", "tiny"],
        ["--model", "x"],
        ["--model", "x", "--name", "tiny", "--precision", "int4"],
        ["--model", "x", "--name", "tiny", "--allow", "everything"],
        ["--model", "x", "--name", "tiny", "--task", "translation"],
        ["--model", "x", "--name", "tiny", "--prec", "fp32"],
        ["--model", "x", "--name", "tiny", "--max-batch-size", "many"],
    ],
)
def test_flags_that_cannot_be(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "a/b"],
        ["--name", "tiny", "--max-batch-size", "0"],
        ["--name", "tiny", "--precision", "fp32", "--serve-precision", "int8"],
        ["--name", "tiny", "--labels", "a", "b"],
    ],
)
def test_values_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--model", str(tmp_path), "--output", str(tmp_path / "out"), *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("export: --")
    assert not (tmp_path / "out").exists()


def test_request() -> None:
    line = (
        "--model m --name n --precision int8 fp32 --eval-data e.csv --allow logits --allow labels "
        "--serve-precision fp32 --text-column t --dry-run --seed 3 --cache-size 0 --int8-recipe per-token"
    )
    request = request_of(parser().parse_args(line.split()))
    assert request.precisions == ("fp32", "int8")  # in the order in which they are built
    assert request.allow == {"logits", "labels"}
    assert request.eval_data == Path("e.csv")
    assert request.output == Path("model_repository")
    assert (request.serve_precision, request.text_column, request.seed) == ("fp32", "t", 3)
    assert request.dry_run
    assert request.options.cache_size == 0


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"precisions": ()}, "--precision"),
        ({"precisions": ("fp32", "fp32")}, "--precision"),
        ({"precisions": ("bf17",)}, "--precision"),
        ({"task": "translation"}, "--task"),
        ({"allow": frozenset({"all"})}, "--allow"),
        ({"int8_recipe": "best"}, "--int8-recipe"),
    ],
)
def test_requests_are_checked_when_made(changes: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        ExportRequest(**{"name": "n", "output": Path("o"), **changes})  # type: ignore[arg-type]


def test_preferred_precision_per_hardware() -> None:
    request = ExportRequest(name="n", output=Path("o"))
    assert request.served(("fp32", "fp16", "int8")) == {"cpu": "int8", "gpu": "fp16"}
    assert request.served(("fp16",)) == {"cpu": "fp16", "gpu": "fp16"}
    forced = ExportRequest(name="n", output=Path("o"), serve_precision="fp32")
    assert forced.served(("fp32", "int8")) == {"cpu": "fp32", "gpu": "fp32"}
