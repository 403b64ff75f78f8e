"""``python -m export``: a fine-tuned checkpoint becomes models in a Triton model repository."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bert_triton_client.contract import PRECISIONS, TASKS, TENSOR_BACKENDS
from export import serving
from export.errors import ExportError, UsageError

if TYPE_CHECKING:
    from export.request import ExportRequest

# `gates.GATES`, `engines.AUTO` and `quantize.RECIPES`, which need numpy; a test holds them together.
GATES = ("logits", "eval-size", "accuracy", "agreement", "invariance", "fusion", "labels")
AUTO = "auto"
RECIPES = ("static", "smoothed", "smoothed-per-token", "per-token", "dynamic")

DESCRIPTION = """\
Exports a fine-tuned BERT, DistilBERT, RoBERTa, ELECTRA or MiniLM as models that Triton serves: NAME takes text, and
NAME_fp32, NAME_fp16, NAME_bf16 and NAME_int8 take tensors. A precision is published only if it passes its gates:
compared with the checkpoint on awkward shapes and, with --eval-data, on at least 2,000 labelled texts, on the engine
that will serve it. What serves a precision on CPUs, and which precision NAME calls there, is measured unless it is
given. Exit status: 0 if every precision was published, 1 if not, 2 for flags that cannot be.
"""
EXAMPLE = """\
example:
  python -m export --model build/demo/checkpoint --name sentiment --precision fp32 fp16 int8 \\
                   --eval-data build/demo/test.csv --calibration-data build/demo/validation.csv
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m export",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(result.add_argument_group("what to export"))
    _add_quality(result.add_argument_group("quality"))
    _add_output(result.add_argument_group("where to"))
    serving.add_arguments(result.add_argument_group("how it is served"))
    return result


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="checkpoint: a folder, or a model on the Hugging Face hub")
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--task", choices=list(TASKS), default="text-classification", help="(default: %(default)s)")
    group.add_argument("--tokenizer", help="folder or hub id of the tokenizer (default: the checkpoint's)")
    group.add_argument(
        "--onnx",
        type=Path,
        help="an FP32 ONNX file to take in; it needs --tokenizer, or the --model it was made from",
    )
    group.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="label names of --onnx, in the order of their ids (default: config.json's)",
    )
    group.add_argument(
        "--max-length", type=int, metavar="N", help="most tokens of a text (default: what the model takes)"
    )
    group.add_argument(
        "--precision",
        nargs="+",
        choices=list(PRECISIONS),
        help="(default: all of them; bf16 only where this CPU computes in it)",
    )


def _add_quality(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--eval-data", type=Path, help="labelled texts to judge on: .csv, .tsv or .jsonl")
    group.add_argument(
        "--calibration-data",
        type=Path,
        help="texts to calibrate int8 on (default: some of --eval-data, which then do not judge)",
    )
    group.add_argument("--text-column", default="text", help="(default: %(default)s)")
    group.add_argument("--label-column", default="label", help="names or ids of labels (default: %(default)s)")
    group.add_argument(
        "--int8-recipe",
        choices=RECIPES,
        help="how int8 scales activations (default: the best on the calibration texts)",
    )
    group.add_argument(
        "--allow",
        action="append",
        choices=GATES,
        default=[],
        metavar="GATE",
        help=f"publish though GATE fails: {', '.join(GATES)}",
    )
    group.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default: %(default)s)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--name", required=True, help="the text model's name in the repository")
    group.add_argument(
        "--output", type=Path, default=Path("model_repository"), help="model repository (default: %(default)s)"
    )
    group.add_argument(
        "--serve-precision",
        choices=list(PRECISIONS),
        help="what the text model calls on --hardware (default: the fastest as measured on this CPU; fp16 on GPUs)",
    )
    group.add_argument(
        "--engine",
        choices=[AUTO, *TENSOR_BACKENDS],
        default=AUTO,
        help="what serves a precision on CPUs that more than one engine can serve (default: auto, the fastest as "
        "measured on this CPU)",
    )
    group.add_argument(
        "--no-packing",
        dest="packing",
        action="store_false",
        help="leave the padding in the graphs: to compare, or for what cannot run the packed ones",
    )
    group.add_argument("--dry-run", action="store_true", help="do everything but write to the repository")


def request_of(arguments: argparse.Namespace) -> ExportRequest:
    """The request that the command line makes.

    Raises:
        UsageError: flags, or two together, that cannot be.
    """
    from export import engines
    from export.request import ExportRequest

    wanted = arguments.precision or engines.default_precisions(arguments.engine)
    return ExportRequest(
        name=arguments.name,
        output=arguments.output,
        model=arguments.model,
        task=arguments.task,
        precisions=tuple(precision for precision in PRECISIONS if precision in wanted),
        revision=arguments.revision,
        onnx=arguments.onnx,
        tokenizer=arguments.tokenizer,
        labels=tuple(arguments.labels) if arguments.labels else None,
        max_length=arguments.max_length,
        eval_data=arguments.eval_data,
        calibration_data=arguments.calibration_data,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        int8_recipe=arguments.int8_recipe,
        engine=arguments.engine,
        packing=arguments.packing,
        serve_precision=arguments.serve_precision,
        allow=frozenset(arguments.allow),
        options=serving.from_arguments(arguments),
        dry_run=arguments.dry_run,
        seed=arguments.seed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    command = parser()
    arguments = command.parse_args(argv)
    if arguments.model is None and arguments.onnx is None:
        command.error("one of --model and --onnx is required")
    try:
        return _export(arguments)
    except UsageError as exc:
        _fail(exc)
        return 2
    except ExportError as exc:
        _fail(exc)
        return 1
    except KeyboardInterrupt:
        print("export: interrupted; nothing was written", file=sys.stderr)
        return 1


def _export(arguments: argparse.Namespace) -> int:
    request = request_of(arguments)
    from export.pipeline import run
    from export.progress import Steps
    from export.report import render

    report = run(request, Steps())
    print(render(report))
    for failure in report.failures:
        print(f"export: {failure}", file=sys.stderr)
    return 1 if report.failures else 0


def _fail(exc: ExportError) -> None:
    if os.environ.get("BERT_TRITON_DEBUG") == "1":
        raise exc
    print(f"export: {' '.join(str(exc).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
