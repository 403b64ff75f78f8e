"""The command line: strict, quick to explain itself, and in step with what it stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export import engines, gates, quantize
from export.__main__ import AUTO, GATES, RECIPES, main, parser, request_of
from export.errors import UsageError
from export.request import ExportRequest

REPOSITORY_ROOT = Path(__file__).parents[2]


def test_choices_are_those_of_the_modules() -> None:
    assert GATES == gates.GATES
    assert tuple(quantize.RECIPES) == RECIPES
    assert engines.AUTO == AUTO


def test_help_does_not_load_what_exporting_needs() -> None:
    code = (
        "import sys; from export.__main__ import parser; parser().format_help(); "
        "heavy = ('torch', 'transformers', 'onnx', 'onnxruntime', 'openvino', 'numpy'); "
        "print([name for name in heavy if name in sys.modules])"
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
        ["--name", "tiny", "--precision", "fp32", "fp16", "--engine", "openvino"],
        ["--name", "tiny", "--precision", "fp32", "bf16", "--engine", "onnxruntime"],
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
        "--serve-precision fp32 --text-column t --dry-run --seed 3 --cache-size 0 --int8-recipe per-token "
        "--engine onnxruntime --no-packing"
    )
    request = request_of(parser().parse_args(line.split()))
    assert request.precisions == ("fp32", "int8")  # in the order in which they are built
    assert request.allow == {"logits", "labels"}
    assert request.eval_data == Path("e.csv")
    assert request.output == Path("model_repository")
    assert (request.serve_precision, request.text_column, request.seed) == ("fp32", "t", 3)
    assert request.dry_run
    assert (request.engine, request.packing) == ("onnxruntime", False)
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
        ({"engine": "torch"}, "--engine"),
    ],
)
def test_requests_are_checked_when_made(changes: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        ExportRequest(**{"name": "n", "output": Path("o"), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "capable", "expected"),
    [
        ("auto", True, ("fp32", "fp16", "bf16", "int8")),
        ("auto", False, ("fp32", "fp16", "int8")),
        ("openvino", True, ("fp32", "fp16", "bf16", "int8")),
        ("onnxruntime", True, ("fp32", "fp16", "int8")),
    ],
)
def test_bf16_is_among_the_precisions_where_the_cpu_computes_in_it(
    engine: str, capable: bool, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "supports_bf16", lambda: capable)
    request = request_of(parser().parse_args(["--model", "m", "--name", "n", "--engine", engine]))
    assert request.precisions == expected


def test_an_engine_that_serves_none_of_the_precisions_is_named_with_those_it_serves() -> None:
    with pytest.raises(UsageError, match=r"--engine: 'openvino' .* auto with --precision fp32.* serves bf16 or int8"):
        ExportRequest(name="n", output=Path("o"), precisions=("fp32",), engine="openvino")
    # what another engine alone serves may stand beside what this one serves
    assert ExportRequest(name="n", output=Path("o"), precisions=("fp32", "int8"), engine="openvino")
