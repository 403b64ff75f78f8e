"""`finetune.recipe` and the command line that fills it."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from finetune.__main__ import main, parser
from finetune.errors import FinetuneError, RecipeError
from finetune.recipe import FULL_LEARNING_RATE, LORA_LEARNING_RATE, Recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("batch_size", 0),
        ("max_length", 2),
        ("warmup_share", 1.0),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("patience", -1),
        ("lora_rank", -1),
        ("lora_dropout", 1.0),
        ("seed", -1),
        ("class_weights", "inverse"),
        ("precision", "fp16"),
        ("metric", "loss"),
    ],
)
def test_out_of_range(field: str, value: object) -> None:
    with pytest.raises(RecipeError, match=f"^{field} is .*: expected "):
        Recipe(**{field: value})  # type: ignore[arg-type]
    assert issubclass(RecipeError, FinetuneError)


def test_learning_rate_depends_on_what_is_trained() -> None:
    assert Recipe().peak_learning_rate == FULL_LEARNING_RATE
    assert Recipe(lora_rank=8).peak_learning_rate == LORA_LEARNING_RATE
    assert Recipe(lora_rank=8, learning_rate=1e-3).peak_learning_rate == 1e-3


def test_every_field_has_its_flag_and_its_default() -> None:
    arguments = parser().parse_args(["--base", "b", "--data", "d.csv", "--output", "o"])
    assert {name: getattr(arguments, name) for name in Recipe.__dataclass_fields__} == vars(Recipe())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--base", "b", "--data", "d.csv", "--output", "o", "--epoch", "3"],  # no abbreviations
        ["--base", "b", "--data", "d.csv", "--output", "o", "--epochs", "three"],
        ["--base", "b", "--data", "d.csv", "--output", "o", "--precision", "int8"],
        ["--base", "b", "--data", "d.csv", "--output", "o", "--validation-data", "v.csv", "--validation-share", "0.2"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


def test_bad_value_is_told_before_torch_is_loaded() -> None:
    command = (
        "import sys; from finetune.__main__ import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    flags = ["--base", "b", "--data", "d.csv", "--output", "o", "--epochs", "0"]
    done = subprocess.run([sys.executable, "-c", command, *flags], capture_output=True, text=True, check=True)
    assert done.stdout == "False 1\n"
    assert done.stderr == "error: epochs is 0: expected 1 to 1000\n"
