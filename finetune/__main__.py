"""`python -m finetune`: labelled text and a base checkpoint in, a fine-tuned checkpoint out. Only wires."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from finetune.data import DataSource
from finetune.errors import FinetuneError
from finetune.pipeline import FinetuneReport, FinetuneRequest
from finetune.recipe import CLASS_WEIGHTS, FULL_LEARNING_RATE, LORA_LEARNING_RATE, METRICS, PRECISIONS, Recipe

_DEFAULTS = Recipe()

_EPILOG = """\
example:
  python -m finetune --base bert-base-uncased --data train.csv --test-data test.csv --output out/sentiment
  python -m export --model out/sentiment --task text-classification --name sentiment --eval-data test.csv
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune",
        description="Fine-tune a BERT on labelled text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--base", required=True, metavar="FOLDER|HUB_ID", help="base checkpoint")
    parser.add_argument("--output", required=True, type=Path, help="folder to make; written whole or not at all")
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    parser.add_argument("--base-name", help="what the model card calls the base (default: its id or folder name)")
    _add_data(parser.add_argument_group("labelled text (.csv, .tsv or .jsonl)"))
    _add_recipe(parser.add_argument_group("recipe"))
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", required=True, type=Path, metavar="FILE", help="texts to train on")
    held_out = group.add_mutually_exclusive_group()
    held_out.add_argument("--validation-data", type=Path, metavar="FILE", help="texts that choose the best epoch")
    held_out.add_argument(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of --data held out for that instead (default: %(default)s)",
    )
    group.add_argument("--test-data", type=Path, metavar="FILE", help="texts that judge the result, at the end")
    group.add_argument("--text-column", default="text", metavar="NAME", help="default: %(default)s")
    group.add_argument("--label-column", default="label", metavar="NAME", help="default: %(default)s")


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    def add(name: str, kind: type, help_text: str) -> None:
        default = getattr(_DEFAULTS, name)
        shown = "" if default is None else f" (default: {default})"
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=help_text + shown)

    add("epochs", int, "most passes over the training texts")
    usual = f"peak learning rate (default: {FULL_LEARNING_RATE:g}, or {LORA_LEARNING_RATE:g} with --lora-rank)"
    add("learning_rate", float, usual)
    add("batch_size", int, "texts per step")
    add("max_length", int, "tokens of a training text, special ones included; longer ones are cut, and counted")
    add("warmup_share", float, "share of the steps in which the learning rate rises from 0")
    add("weight_decay", float, "AdamW's weight decay")
    add("label_smoothing", float, "probability taken from the right label and spread over all")
    add("patience", int, "epochs without a better score before training stops early; 0 never does")
    add("lora_rank", int, "train a LoRA adapter of this rank and merge it; 0 trains all weights")
    add("lora_dropout", float, "dropout before the adapter")
    add("seed", int, "of everything random")
    for name, choices, help_text in (
        ("class_weights", CLASS_WEIGHTS, "balanced: every label counts the same, however rare"),
        ("metric", METRICS, "what chooses the best epoch"),
        ("precision", PRECISIONS, "arithmetic of training; auto is bf16 where the hardware has it"),
    ):
        flag = f"--{name.replace('_', '-')}"
        default = getattr(_DEFAULTS, name)
        group.add_argument(flag, choices=choices, default=default, help=f"{help_text} (default: {default})")


def _request(arguments: argparse.Namespace) -> FinetuneRequest:
    source = DataSource(
        train=arguments.data,
        validation=arguments.validation_data,
        test=arguments.test_data,
        validation_share=arguments.validation_share,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
    )
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    return FinetuneRequest(
        base=arguments.base,
        source=source,
        output=arguments.output,
        recipe=recipe,
        base_name=arguments.base_name,
        overwrite=arguments.overwrite,
    )


def _print_report(report: FinetuneReport, seconds: float) -> None:
    from finetune.card import scores_line

    metrics = report.metrics
    print(f"best epoch {metrics['best_epoch']} of {len(metrics['epochs'])}")
    print(f"validation: {scores_line(metrics['validation'])}")
    if metrics["test"]:
        print(f"test:       {scores_line(metrics['test'])}")
    size = (report.output / "model.safetensors").stat().st_size
    print(f"wrote {report.output} ({size / 1e6:.0f} MB of weights) in {seconds:.0f} s")
    print(
        f"next: python -m export --model {report.output} --task text-classification --name sentiment --eval-data FILE"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    try:
        request = _request(arguments)
        from finetune.pipeline import run
        from finetune.progress import Progress

        report = run(request, Progress())
    except FinetuneError as exc:
        if os.environ.get("BERT_TRITON_DEBUG") == "1":
            raise
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    _print_report(report, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the partial folder is removed
    sys.exit(main())
