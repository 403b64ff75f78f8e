"""``python -m loadtest tables``: everything that tables T1 to T5 take, into one run folder, and the report of it.

    precision -> batch sizes -> concurrency -> HTTP -> cache -> capacity -> cost -> hardware -> report -> README

Capacity comes after batch sizes and concurrency because it goes on from their cells. A step that breaks does not lose
the others; Ctrl-C, or a server that is gone, ends them all, and what was measured is reported.

Budget, on the demo model (INT8 about 200 texts/s on 2 cores) with this command's own timings (2 s warm-up, 8 to 40 s a
cell, 3 s around it): precision 6 cells, 80 s, and 2,200 texts in three precisions, 60 s; batch sizes 13 + 21 + 37 + 45
+ 45 = 161 s, since 400 requests of 64 texts take longer than a cell may; concurrency 7 x 13 = 91 s; HTTP and cache
26 s; capacity up to 8 x 13 = 104 s. About 520 s, which leaves a slower machine a minute of ten.

The default folder is results/tables: an unfinished run of the same command goes on; any other run in it is moved aside
to results/tables-<when it began>. A folder named with --output is always resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest import options as flags
from loadtest.cell import Workload
from loadtest.commands import capacity, cost, hardware, precision
from loadtest.commands.batch_size import SIZES
from loadtest.commands.concurrency import USERS
from loadtest.commands.plan import carry_out, describe
from loadtest.commands.steps import Subject, all_steps
from loadtest.errors import TargetError, UsageError

if TYPE_CHECKING:
    from loadtest.campaign import Finding
    from loadtest.options import Session
    from loadtest.results import RunFolder
    from loadtest.target import Target

FOLDER = flags.RESULTS / "tables"
FINISHED_FILE = "finished"
# What a cell takes here, instead of the flags' usual defaults; see the budget above.
DURATION_S = 8.0
MAX_DURATION_S = 40.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    load = parser.add_argument_group("load")
    flags.add_sizes_argument(load, SIZES)
    load.add_argument(
        "--users",
        nargs="+",
        type=flags.count,
        default=list(USERS),
        metavar="N",
        help=f"of the concurrency sweep (default: {' '.join(map(str, USERS))})",
    )
    load.add_argument(
        "--p99-ms",
        type=flags.positive,
        default=capacity.P99_LIMIT_MS,
        metavar="MS",
        help="limit of the capacity (default: %(default)g)",
    )
    load.add_argument("--http-url", metavar="URL", help="http(s)://host:port of the same server, for a cell over HTTP")
    precisions = parser.add_argument_group("precisions")
    precisions.add_argument(
        "--models",
        dest="precision_models",
        nargs="+",
        metavar="NAME",
        help="to compare (default: <model>_fp32, <model>_fp16 and <model>_int8, those that the server has)",
    )
    precision.add_exam_arguments(parser)
    price = parser.add_argument_group("cost")
    cost.add_price_arguments(price, required=False)
    results = parser.add_argument_group("tables")
    hardware.add_store_argument(results)
    results.add_argument(
        "--readme", type=Path, metavar="FILE", help="puts the tables between its <!-- table T1 --> marks"
    )
    flags.add_common_arguments(parser)
    parser.set_defaults(duration_s=DURATION_S)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    own_folder = options.output is None
    options.output = options.output or FOLDER
    if options.max_duration_s is None:
        options.max_duration_s = max(MAX_DURATION_S, options.duration_s)
    session = flags.session(options)
    _check(options, session)
    from loadtest import campaign

    subject = _subject(options, session)
    steps = all_steps(subject)
    more = session.spec("", session.model, batch_size=1, workload=Workload(users=1))
    if session.dry_run:
        print(f"{describe(steps, more)}\n\nNothing was measured; leave out --dry-run to measure.")
        return 0
    _say(describe(steps, more))
    if own_folder:
        _make_room(session)

    def work(folder: RunFolder) -> Finding:
        from loadtest.results import write_atomically

        outcome = carry_out(steps, folder, _say)
        if not outcome.broken:
            write_atomically(folder.path / FINISHED_FILE, "every step was done\n")
        return outcome.finding

    exit_code = campaign.conduct(session, work, next_step=f"open {session.output / 'report.html'}")
    if options.readme is not None:
        _update_readme(options.readme, session.output)
    return exit_code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check(options: argparse.Namespace, session: Session) -> None:
    """What can be wrong with the flags alone.

    Raises:
        UsageError: something is.
    """
    from bert_triton_client import InvalidConfigError
    from bert_triton_client.config import Endpoint

    flags.distinct("--sizes", options.sizes or ())
    flags.distinct("--users", options.users)
    flags.distinct("--models", options.precision_models or ())
    if options.readme is not None and not options.readme.is_file():
        raise UsageError(f"--readme {options.readme}: no such file")
    if session.texts.repeat_share:
        raise UsageError("--repeat-share: the cache has a row of its own in these tables; leave it out")
    if options.http_url is not None:
        try:
            endpoint = Endpoint.parse(options.http_url)
        except InvalidConfigError as exc:
            raise UsageError(f"--http-url: {exc}") from exc
        if endpoint.protocol != "http":
            raise UsageError(f"--http-url {options.http_url}: expected http:// or https://")


# --- Who ------------------------------------------------------------------------------------------


def _subject(options: argparse.Namespace, session: Session) -> Subject:
    from loadtest import measure

    exam = precision.exam(options, session)
    target = measure.inspect(session, session.model)
    compared = _compared(options.precision_models, session)
    return Subject(session, target, compared, precision.without_unfit(compared, exam), options)


def _compared(wanted: Sequence[str] | None, session: Session) -> tuple[Target, ...]:
    """The models to compare; of the usual ones, those that the server has.

    Raises:
        TargetError: one that was named is not there.
    """
    from bert_triton_client.contract import PRECISIONS, tensor_model_name
    from loadtest import measure

    if wanted is not None:
        return tuple(measure.inspect(session, model) for model in wanted)
    found = (_found(session, tensor_model_name(session.model, name)) for name in PRECISIONS)
    return tuple(target for target in found if target is not None)


def _found(session: Session, model: str) -> Target | None:
    from loadtest import measure

    try:
        return measure.inspect(session, model)
    except TargetError as exc:
        _say(f"not compared: {exc}")
        return None


# --- Where ----------------------------------------------------------------------------------------


def _make_room(session: Session) -> None:
    """Leaves an unfinished run of the same command in the default folder, and moves any other aside.

    Raises:
        ResultsError: it cannot be moved, or another process is writing it.
    """
    from loadtest.errors import ResultsError
    from loadtest.results import INFO_FILE, RunFolder, slug

    path = session.output
    if not (path / INFO_FILE).is_file():
        return
    with RunFolder.create_or_resume(path, RunFolder.open(path).info) as folder:  # nobody else is writing it
        unfinished = not (path / FINISHED_FILE).exists()
        if unfinished and same_command(folder.info.command, session.command):
            _say(f"resuming the unfinished run in {path}")
            return
        aside = path.with_name(f"{path.name}-{slug(folder.info.created_at[:19])}")
        try:
            path.rename(aside)
        except OSError as exc:
            raise ResultsError(f"{path} cannot be moved to {aside}: {exc.strerror or exc}; give --output") from exc
    _say(f"{path} held {'another' if unfinished else 'a finished'} run: moved to {aside}")


def same_command(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two command lines measure the same: a server's process number is another at every start."""
    return _without_pid(one) == _without_pid(other)


def _without_pid(words: Sequence[str]) -> list[str]:
    pairs = zip(words, ("", *words), strict=False)
    return [word for word, before in pairs if "--server-pid" not in (word.partition("=")[0], before)]


def _update_readme(readme: Path, folder: Path) -> None:
    from loadtest import report
    from loadtest.results import RunFolder

    report.update_readme(readme, RunFolder.open(folder).read())
    print(f"Wrote the tables into {readme}.")
