"""``bert-triton``: asks a Triton server from a shell.

Owns arguments, printing and exit statuses (0 all well, 1 something failed, 2 wrong usage). Answers go
to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .config import DEFAULT_MODEL, DEFAULT_URL, Endpoint
from .errors import BertTritonError, InvalidConfigError, InvalidTextError

if TYPE_CHECKING:
    from .client import Client

URL_VARIABLE = "BERT_TRITON_URL"
DEBUG_VARIABLE = "BERT_TRITON_DEBUG"
_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
_T = TypeVar("_T")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.url = _url(parser, arguments.url)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still gets its answers
    try:
        return _run(parser, arguments)
    except KeyboardInterrupt:
        print("bert-triton: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answers has enough; keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from .labelled import LabelledDataError

    try:
        from .client import Client

        with Client(arguments.url, model=arguments.model, timeout_s=arguments.timeout_s) as client:
            status: int = arguments.command(client, arguments)
        sys.stdout.flush()
    except InvalidConfigError as exc:
        parser.error(str(exc))
    except (BertTritonError, LabelledDataError, OSError) as exc:
        if isinstance(exc, BrokenPipeError) or os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        print(f"bert-triton: {exc}", file=sys.stderr)
        return 1
    return status


# --- Arguments --------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bert-triton", description="Ask a Triton server that serves text models.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    classify = _command(commands, "classify", _classify, "label texts, given as arguments or one a line")
    classify.add_argument("texts", nargs="*", metavar="TEXT", help="a text; `-` reads lines from standard input")
    classify.add_argument("--file", type=Path, help="read texts from here: .csv, .tsv, .jsonl, else one a line")
    classify.add_argument("--text-column", default="text", help="column of a .csv, .tsv or .jsonl (default: text)")

    _command(commands, "models", _models, "list the models of the server")
    _command(commands, "health", _health, "check the server and run an inference; exit 1 if that fails")
    _command(commands, "stats", _stats, "show what the server's models have done")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[Client, argparse.Namespace], int], help_line: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(command=run)
    parser.add_argument(
        "--url", help=f"grpc://host:port or http://host:port (default: ${URL_VARIABLE}, else {DEFAULT_URL})"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"the text model (default: {DEFAULT_MODEL})")
    parser.add_argument("--timeout-s", type=_seconds, help="seconds for the whole command (default: 30 a request)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r}, expected a number of seconds above 0")
    return seconds


def _url(parser: argparse.ArgumentParser, flag: str | None) -> str:
    url = flag if flag is not None else os.environ.get(URL_VARIABLE, DEFAULT_URL)
    try:
        Endpoint.parse(url)
    except InvalidConfigError as exc:
        parser.error(f"--url: {exc}" if flag is not None else f"environment variable {URL_VARIABLE}: {exc}")
    return url


# --- classify ---------------------------------------------------------------------------------------


def _classify(client: Client, arguments: argparse.Namespace) -> int:
    texts = _texts(arguments)
    # A person who types wants an answer a line, not one a full request.
    typed = arguments.texts == ["-"] and sys.stdin.isatty()
    asked: deque[str] = deque()  # read, not yet answered
    answers = (
        (client.classify(text, on_error="return") for text in _noted(texts, asked))
        if typed
        else client.classify_iter(_noted(texts, asked), on_error="return")
    )
    show = _ClassificationPrinter(as_json=arguments.json)
    for number, answer in enumerate(_with_progress(answers), start=1):
        show(number, asked.popleft(), answer)
    return 1 if show.failed else 0


def _noted(texts: Iterable[str], asked: deque[str]) -> Iterator[str]:
    for text in texts:
        asked.append(text)
        yield text


def _texts(arguments: argparse.Namespace) -> Iterable[str]:
    if bool(arguments.texts) == bool(arguments.file):
        raise InvalidConfigError("give texts as arguments, or --file FILE, or `-` for standard input")
    if arguments.file is None:
        return _lines(sys.stdin.buffer) if arguments.texts == ["-"] else arguments.texts
    if arguments.file.suffix.lower() in _TABLE_SUFFIXES:
        from .labelled import read_texts

        return read_texts(arguments.file, text_column=arguments.text_column)
    return _file_lines(arguments.file)


def _file_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield from _lines(file)


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    # What is not UTF-8 becomes lone surrogates, which the client refuses for that line alone.
    for line in file:
        yield line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


class _ClassificationPrinter:
    """Prints answers as they come, labels padded to the longest so far."""

    def __init__(self, *, as_json: bool) -> None:
        self.failed = 0
        self._as_json = as_json
        self._width = 0

    def __call__(self, number: int, text: str, answer: Any) -> None:
        if isinstance(answer, InvalidTextError):
            self.failed += 1
            if self._as_json:
                _print_json({"text": _printable(text), "error": answer.reason})
            else:
                print(f"bert-triton: text {number}: {answer.reason}", file=sys.stderr)
        elif self._as_json:
            _print_json({"text": text, **answer._asdict()})
        else:
            label = _printable(answer.label)
            self._width = max(self._width, len(label))
            print(f"{label:<{self._width}} {answer.score:.3f}  {_printable(text)}")


def _printable(text: str) -> str:
    """The text on one line, with escapes for what a terminal would obey or cannot encode."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _with_progress(answers: Iterable[_T]) -> Iterator[_T]:
    """Counts on stderr while answers go to a file; silent if stderr is no terminal or stdout is one."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield from answers
        return
    started = shown = time.monotonic()
    count = 0
    for count, answer in enumerate(answers, start=1):
        yield answer
        now = time.monotonic()
        if now - shown > 0.5:
            shown = now
            print(f"\r{count:,} texts, {count / (now - started):,.0f}/s ", end="", file=sys.stderr, flush=True)
    if shown != started:
        print(f"\r{count:,} texts in {time.monotonic() - started:.1f} s", file=sys.stderr)


# --- models, health, stats --------------------------------------------------------------------------


def _models(client: Client, arguments: argparse.Namespace) -> int:
    rows = [{**vars(status), **_described(client, status)} for status in client.models()]
    _print_rows(rows, ("name", "version", "state", "task", "tensor_model", "reason"), as_json=arguments.json)
    return 0


def _described(client: Client, status: Any) -> dict[str, Any]:
    if status.state != "READY":
        return {"task": "", "tensor_model": ""}
    info = client.model_info(status.name, version=status.version)
    return {"task": info.task or "tensors", "tensor_model": info.tensor_model or ""}


def _health(client: Client, arguments: argparse.Namespace) -> int:
    health = client.health(arguments.model)
    if arguments.json:
        _print_json({"ok": health.ok, **vars(health)})
        return 0 if health.ok else 1
    print(f"server  {'live' if health.live else 'NOT LIVE'}, {'ready' if health.ready else 'NOT READY'}")
    if health.canary_ms is not None:
        print(f"canary  {arguments.model} answered in {health.canary_ms:.1f} ms")
    else:
        print(f"canary  {arguments.model} NOT ANSWERED")
        print(f"bert-triton: {health.reason}", file=sys.stderr)
    return 0 if health.ok else 1


def _stats(client: Client, arguments: argparse.Namespace) -> int:
    rows = [{**vars(one), "mean_batch_size": one.mean_batch_size} for one in client.statistics()]
    columns = ("name", "version", "requests", "failures", "inferences", "executions")
    means = ("mean_batch_size", "queue_ms", "compute_ms", "cache_hits")
    _print_rows(rows, (*columns, *means), as_json=arguments.json)
    return 0


def _print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            _print_json({column: row[column] for column in columns})
        return
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)] if rows else []
    numeric = [bool(rows) and isinstance(rows[0][column], (int, float)) for column in columns]
    for line in [list(columns), *cells] if rows else []:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
