"""The flags that commands share: their names, their checks one by one, their help. Standard library only, so that
``--help`` is instant. What they say together is `loadtest.options`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from loadtest.cell import CellSpec, TensorNames, TextSource
from loadtest.errors import UsageError

URL_VARIABLE = "BERT_TRITON_URL"
DEFAULT_URL = "grpc://localhost:8001"
DEFAULT_MODEL = "sentiment"
MAX_DURATION_S = 60.0

_Group = argparse.ArgumentParser | argparse._ArgumentGroup


class Parser(argparse.ArgumentParser):
    """Strict: no abbreviated flags; what is wrong is a `UsageError`, not an exit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError` where argparse would print and exit."""
        raise UsageError(f"{message}; `{self.prog} --help` lists the flags")


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return int(text)


def _number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not fits(value):
            raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
        return value

    return parse


positive = _number("a number above 0", lambda value: value > 0)
not_negative = _number("a number of at least 0", lambda value: value >= 0)
share = _number("a share from 0 to 1", lambda value: 0 <= value <= 1)
share_below_1 = _number("a share from 0 to below 1", lambda value: 0 <= value < 1)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 1 to 65535")
    return int(text)


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:  # the value may be a secret: it is never repeated
        raise argparse.ArgumentTypeError("expected NAME=VALUE, for example authorization='Bearer …'")
    return name, value


def add_common_arguments(parser: argparse.ArgumentParser, *, several_models: bool = False) -> None:
    """Adds what every measuring command takes; `session` reads it.

    Args:
        parser: the command's.
        several_models: ``--models A B …`` instead of ``--model A``.
    """
    _add_target(parser.add_argument_group("what to test"), several_models)
    _add_texts(parser.add_argument_group("what is asked"))
    _add_names(parser.add_argument_group("tensor names, where they are not the usual ones"))
    _add_timings(parser.add_argument_group("how long"))
    _add_generator(parser.add_argument_group("load generator"))
    _add_server_side(parser.add_argument_group("the server's side"))
    add_output_arguments(parser.add_argument_group("results"))


def add_workload_arguments(parser: _Group, *, users: int = 1) -> None:
    """Adds ``--users`` and ``--rate``, of which one counts; `workload` reads them."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--users",
        type=count,
        metavar="N",
        help=f"closed workload: N users that each wait for their answer (default: {users})",
    )
    choice.add_argument(
        "--rate",
        type=positive,
        metavar="R",
        help="open workload: Poisson arrivals, R requests a second; latency counts from the intended send time",
    )
    parser.set_defaults(default_users=users)


def add_sizes_argument(parser: _Group, default: Sequence[int]) -> None:
    """Adds ``--sizes``; None if it is not given; `distinct` checks it."""
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=count,
        metavar="N",
        help=f"batch sizes: texts a request (default: {_words(default)}, up to the model's max_batch_size)",
    )


def add_batch_size_argument(parser: _Group) -> None:
    """Adds ``--batch-size``."""
    parser.add_argument(
        "--batch-size", type=count, default=1, metavar="N", help="texts a request (default: %(default)s)"
    )


def add_output_arguments(group: _Group) -> None:
    """Adds ``--output``, ``--note``, ``--json`` and ``--dry-run``."""
    group.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="run folder; an existing one is resumed (default: results/<command>-<UTC time>)",
    )
    group.add_argument("--note", default="", metavar="TEXT", help="anything to keep beside the run")
    group.add_argument("--json", dest="as_json", action="store_true", help="results as JSON on stdout")
    group.add_argument("--dry-run", action="store_true", help="print what would be measured, and measure nothing")


def _add_target(group: _Group, several_models: bool) -> None:
    group.add_argument(
        "--url", help=f"grpc(s)://host:port or http(s)://host:port (default: ${URL_VARIABLE} or {DEFAULT_URL})"
    )
    if several_models:
        group.add_argument("--models", nargs="+", default=[DEFAULT_MODEL], metavar="NAME", help="names in Triton")
    else:
        group.add_argument(
            "--model", default=DEFAULT_MODEL, metavar="NAME", help="name in Triton (default: %(default)s)"
        )
    group.add_argument("--model-version", default="", metavar="N", help="(default: the server's choice)")
    group.add_argument(
        "--header",
        action="append",
        type=_header,
        default=[],
        metavar="NAME=VALUE",
        help="sent with every request, for example a token; never stored; repeatable",
    )
    group.add_argument(
        "--ca-certificates", metavar="FILE", help="authorities for grpcs:// and https:// (default: the system's)"
    )


def _add_texts(group: _Group) -> None:
    usual = TextSource()
    group.add_argument("--texts", metavar="FILE", help=".csv, .tsv, .jsonl or .txt (default: the built-in generator)")
    group.add_argument("--text-column", default=usual.text_column, metavar="NAME", help="(default: %(default)s)")
    group.add_argument(
        "--median-words",
        type=positive,
        default=usual.median_words,
        metavar="N",
        help="of the generator's log-normal lengths (default: %(default)g)",
    )
    group.add_argument(
        "--sigma",
        type=not_negative,
        default=usual.sigma,
        metavar="S",
        help="standard deviation of the logarithm of the length (default: %(default)g)",
    )
    group.add_argument(
        "--max-words", type=count, default=usual.max_words, metavar="N", help="longest text (default: %(default)s)"
    )
    group.add_argument(
        "--repeat-share",
        type=share,
        default=usual.repeat_share,
        metavar="SHARE",
        help="share of texts that a cache can answer; above 0 the cells measure the cache (default: %(default)g)",
    )


def _add_names(group: _Group) -> None:
    usual = TensorNames()
    for flag, what in (
        ("--text-tensor", "BYTES input of a text model"),
        ("--input-ids-tensor", "integer input with token ids"),
        ("--attention-mask-tensor", "integer input, 1 for tokens and 0 for padding"),
        ("--token-type-ids-tensor", "integer input, 0 for a single text"),
    ):
        group.add_argument(flag, metavar="NAME", help=what)
    group.add_argument(
        "--output-tensor", action="append", default=[], metavar="NAME", help="to ask for; repeatable (default: all)"
    )
    group.add_argument(
        "--sequence-length", type=count, metavar="N", help="tokens of every row (default: lengths like the texts')"
    )
    group.add_argument(
        "--vocabulary-size",
        type=count,
        default=usual.vocabulary_size,
        metavar="N",
        help="token ids are drawn below this (default: %(default)s)",
    )


def _add_timings(group: _Group) -> None:
    usual = CellSpec("usual", "", DEFAULT_URL, DEFAULT_MODEL)
    group.add_argument(
        "--warm-up-s", type=not_negative, default=usual.warm_up_s, metavar="S", help="discarded (default: %(default)g)"
    )
    group.add_argument(
        "--duration-s",
        type=positive,
        default=usual.duration_s,
        metavar="S",
        help="least of a cell (default: %(default)g)",
    )
    group.add_argument(
        "--max-duration-s",
        type=positive,
        metavar="S",
        help=f"most of a cell that waits for --min-requests (default: {MAX_DURATION_S:g}, or --duration-s if longer)",
    )
    group.add_argument(
        "--min-requests",
        type=count,
        default=usual.min_requests,
        metavar="N",
        help="what a cell is prolonged for (default: %(default)s: an interval of a p99 takes that many)",
    )
    group.add_argument(
        "--timeout-s", type=positive, default=usual.timeout_s, metavar="S", help="of one request (default: %(default)g)"
    )
    group.add_argument(
        "--max-error-rate",
        type=share_below_1,
        default=usual.max_error_rate,
        metavar="SHARE",
        help="failed requests above which a cell has failed (default: %(default)g)",
    )


def _add_generator(group: _Group) -> None:
    group.add_argument(
        "--processes",
        type=count,
        default=1,
        metavar="N",
        help="load-generating processes here, one a user at most (default: %(default)s)",
    )
    group.add_argument(
        "--expect-workers",
        type=count,
        metavar="N",
        help="wait for N `python -m loadtest worker` on other machines, and let those make the load",
    )
    group.add_argument(
        "--master-bind-host", default="127.0.0.1", metavar="HOST", help="where they connect to (default: %(default)s)"
    )
    group.add_argument("--master-bind-port", type=_port, default=5557, metavar="PORT", help="(default: %(default)s)")


def _add_server_side(group: _Group) -> None:
    group.add_argument(
        "--metrics-url",
        metavar="URL",
        help="Triton's metrics (default: http://<the server>:8002/metrics, if it is there)",
    )
    group.add_argument(
        "--server-pid", type=count, metavar="PID", help="tritonserver on this machine (default: who listens at --url)"
    )
    group.add_argument("--hardware", metavar="TEXT", help="the server's machine, where it is not this one")


def _words(sizes: Sequence[int]) -> str:
    return " ".join(str(size) for size in sizes)
