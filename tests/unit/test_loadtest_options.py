"""The command line of ``python -m loadtest``: every value that cannot be is refused by name, with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import options
from loadtest.__main__ import COMMANDS, main
from loadtest.cell import TensorNames, TextSource, Workload
from loadtest.commands import batch_size, capacity, concurrency
from loadtest.errors import UsageError
from loadtest.flags import Parser
from loadtest.options import Session, redacted, session
from tests.conftest import REPOSITORY_ROOT

EVERY_FLAG = """
--url http://gpu:9000 --model bert --model-version 3 --texts a.csv --text-column review --median-words 30
--sigma 0.2 --max-words 50 --repeat-share 0.5 --text-tensor T --input-ids-tensor I --attention-mask-tensor A
--token-type-ids-tensor Y --output-tensor O --output-tensor P --sequence-length 128 --vocabulary-size 100
--warm-up-s 0 --duration-s 5 --max-duration-s 7 --min-requests 9 --timeout-s 3 --processes 2 --max-error-rate 0.1
"""
SHARED_FLAGS = "--url http://gpu:9000 --model bert --duration-s 5 --header token=x --note n --json --dry-run"


def parsed(*words: str, environ: dict[str, str] | None = None, command=batch_size) -> Session:  # type: ignore[no-untyped-def]
    parser = Parser(prog="python -m loadtest batch-size")
    command.add_arguments(parser)
    parser.set_defaults(command_name="batch-size", words=("batch-size", *words))
    return session(parser.parse_args(list(words)), environ or {})


def test_defaults() -> None:
    found = parsed()
    assert found.url == "grpc://localhost:8001"
    assert found.models == ("sentiment",)
    assert (found.warm_up_s, found.duration_s, found.max_duration_s, found.min_requests) == (2.0, 10.0, 60.0, 400)
    assert found.texts == TextSource()
    assert found.names == TensorNames()
    assert found.output.parent == Path("results")
    assert found.output.name.startswith("batch-size-20")
    assert found.output.name.endswith("Z")


def test_every_flag_reaches_the_cells() -> None:
    found = parsed(*EVERY_FLAG.split())
    cell = found.spec("batch-size", found.model, batch_size=8, workload=Workload(users=4))
    assert cell.id == "batch-size_bert_b8_u4"
    assert (cell.url, cell.model, cell.version, cell.batch_size) == ("http://gpu:9000", "bert", "3", 8)
    assert cell.texts == TextSource("a.csv", "review", 30.0, 0.2, 5, 50, 0.5)
    assert cell.names == TensorNames("T", "I", "A", "Y", ("O", "P"), 128, 100)
    assert (cell.warm_up_s, cell.duration_s, cell.max_duration_s, cell.min_requests) == (0, 5, 7, 9)
    assert (cell.timeout_s, cell.processes, cell.max_error_rate) == (3, 2, 0.1)


def test_cells_that_differ_have_different_names() -> None:
    found = parsed()
    loads = [Workload(users=1), Workload(users=2), Workload(rate_per_s=2.0), Workload(rate_per_s=20.5)]
    ids = {found.spec(s, m, batch_size=b, workload=w).id for s in "st" for m in "mn" for b in (1, 2) for w in loads}
    assert len(ids) == 32


def test_there_are_no_processes_without_users() -> None:
    found = parsed("--processes", "4")
    loads = [Workload(users=1), Workload(users=3), Workload(users=64), Workload(rate_per_s=5.0)]
    cells = [found.spec("s", "m", batch_size=1, workload=load) for load in loads]
    assert [cell.processes for cell in cells] == [1, 3, 4, 4]


def test_a_long_duration_raises_the_longest() -> None:
    assert parsed("--duration-s", "120").max_duration_s == 120


def test_flag_beats_environment_beats_default() -> None:
    environ = {"BERT_TRITON_URL": "http://there:8000"}
    assert parsed(environ=environ).url == "http://there:8000"
    assert parsed("--url", "grpc://here:1", environ=environ).url == "grpc://here:1"
    assert parsed(environ={"BERT_TRITON_URL": ""}).url == "grpc://localhost:8001"


def test_a_bad_environment_value_is_an_error_and_named() -> None:
    with pytest.raises(UsageError, match=r"BERT_TRITON_URL: URL 'localhost:8001' does not say which protocol"):
        parsed(environ={"BERT_TRITON_URL": "localhost:8001"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sizes 0", "argument --sizes: 0: expected a whole number of at least 1"),
        ("--sizes 1 -8", "argument --sizes: expected|-8"),
        ("--sizes 1.5", "argument --sizes: 1.5: expected a whole number"),
        ("--sizes eight", "argument --sizes: eight: expected a whole number"),
        ("--sizes", "argument --sizes: expected at least one"),
        ("--users 0", "argument --users: 0: expected a whole number of at least 1"),
        ("--users nan", "argument --users: nan: expected"),
        ("--rate 0", "argument --rate: 0: expected a number above 0"),
        ("--rate nan", "argument --rate: nan: expected a number above 0"),
        ("--rate inf", "argument --rate: inf: expected a number above 0"),
        ("--users 1 --rate 5", "argument --rate: not allowed with argument --users"),
        ("--duration-s nan", "argument --duration-s: nan: expected a number above 0"),
        ("--duration-s 0", "argument --duration-s: 0: expected a number above 0"),
        ("--warm-up-s -1", "argument --warm-up-s: -1: expected a number of at least 0"),
        ("--timeout-s 0", "argument --timeout-s: 0: expected a number above 0"),
        ("--min-requests 0", "argument --min-requests: 0: expected"),
        ("--processes 0", "argument --processes: 0: expected"),
        ("--max-error-rate 1", "argument --max-error-rate: 1: expected a share from 0 to below 1"),
        ("--repeat-share 1.1", "argument --repeat-share: 1.1: expected a share"),
        ("--median-words 2", "median 2"),
        ("--max-words 10", "at most 10 words"),
        ("--sigma nan", "argument --sigma: nan: expected"),
        ("--sequence-length 0", "argument --sequence-length: 0: expected"),
        ("--url localhost:8001", "--url: URL 'localhost:8001' does not say which protocol"),
        ("--url grpc://localhost:port", "--url: URL 'grpc://localhost:port'"),
        ("--header token", "argument --header: expected NAME=VALUE"),
        (
            "--ca-certificates /nowhere/ca.pem --url grpcs://localhost",
            "--ca-certificates '/nowhere/ca.pem' is not a file",
        ),
        ("--ca-certificates README.md", "is not TLS"),
        ("--master-bind-port 0", "argument --master-bind-port: 0: expected a port"),
        ("--durat 5", "unrecognized arguments: --durat"),
        ("--model", "argument --model: expected one argument"),
    ],
)
def test_values_that_cannot_be_are_named(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(*words.split())


def test_a_secret_is_not_repeated_by_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        parsed("--header", "hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--header", "token=hunter2", "--url", "u"], ("--header", "token=…", "--url", "u")),
        (["--header=token=hunter2"], ("--header=token=…",)),
        (["--metrics-url", "http://me:hunter2@gpu:8002/metrics"], ("--metrics-url", "http://…@gpu:8002/metrics")),
        (["--sizes", "1", "8"], ("--sizes", "1", "8")),
    ],
)
def test_secrets_are_left_out_of_the_stored_command(words: list[str], kept: tuple[str, ...]) -> None:
    assert redacted(words) == kept


def test_headers_reach_the_server_and_not_the_command() -> None:
    found = parsed("--header", "Token=hunter2=", "--header", "tenant=a")
    assert dict(found.access.headers) == {"Token": "hunter2=", "tenant": "a"}
    assert "hunter2" not in " ".join(found.command)


def test_values_given_twice() -> None:
    with pytest.raises(UsageError, match="argument --sizes: 8 is given twice"):
        options.distinct("--sizes", [1, 8, 16, 8])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch-size", "--sizes", "0"], "argument --sizes: 0: expected a whole number of at least 1"),
        (["batch-size", "--sizes", "8", "8"], "argument --sizes: 8 is given twice"),
        (["concurrency", "--users", "1", "0"], "argument --users: 0: expected"),
        (["concurrency", "--users", "2", "2"], "argument --users: 2 is given twice"),
        (["capacity", "--p99-ms", "nan"], "argument --p99-ms: nan: expected a number above 0"),
        (["batch-sizes"], "unknown command 'batch-sizes': expected one of batch-size, "),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"loadtest: error: {message}")
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize("command", [batch_size, concurrency, capacity])
def test_one_flag_means_one_thing_everywhere(command) -> None:  # type: ignore[no-untyped-def]
    found = parsed(*SHARED_FLAGS.split(), command=command)
    assert (found.url, found.model, found.duration_s, found.note) == ("http://gpu:9000", "bert", 5, "n")
    assert found.as_json
    assert found.dry_run


def test_help_is_instant_and_lists_every_command() -> None:
    script = (
        "import sys; from loadtest.__main__ import main; code = main(sys.argv[1:])\n"
        "heavy = {'numpy', 'pydantic', 'locust', 'gevent', 'grpc', 'matplotlib', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    for words in (["--help"], []):
        found = subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=REPOSITORY_ROOT,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert found.returncode == (0 if words else 2), found.stderr
        assert all(f"\n  {name} " in found.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["batch-size", "concurrency", "capacity"])
def test_help_of_a_command_brings_nothing_heavy_in(command: str) -> None:
    script = (
        "import sys; from loadtest.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(str({'numpy', 'pydantic', 'locust', 'gevent', 'grpc', 'matplotlib'} & set(sys.modules) or ''))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--duration-s" in found.stdout
    assert found.stderr.strip() == ""
