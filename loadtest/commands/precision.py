"""``python -m loadtest precision``: accuracy, size, latency and throughput of several models side by side (T1, T2).

Two cells a model, all of a kind next to each other so that models are compared within minutes: one user (latency), then
many (throughput), both of single texts. Accuracy is asked for afterwards, outside the timed cells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest import options as flags
from loadtest.cell import CellSpec, Estimate, ModelFacts, Workload
from loadtest.conclusions.hardware import REMOTE
from loadtest.errors import LoadTestError, UsageError

if TYPE_CHECKING:
    from loadtest.campaign import Finding
    from loadtest.conclusions.accuracy import Accuracy, LabelledTexts
    from loadtest.conclusions.facts import Repository, TextSide
    from loadtest.options import Session
    from loadtest.results import RunFolder
    from loadtest.target import Target

SERIES = "precision"
USERS = 16
NEXT = "python -m loadtest capacity --p99-ms 500 --output {folder}"


@dataclass(frozen=True)
class Exam:
    """How accuracy is measured, and where files say more of the models.

    Attributes:
        data: labelled texts; None leaves accuracy "not measured".
        repository: the models' files.
        tokenizer: for tensor models, instead of the repository's.
        labels: names by id, instead of the repository's.
        timeout_s: of one request.
        without: models whose accuracy is not to be measured, and why.
    """

    data: LabelledTexts | None
    repository: Repository
    tokenizer: Path | None = None
    labels: tuple[str, ...] = ()
    timeout_s: float = 30.0
    without: Mapping[str, str] = field(default_factory=dict)

    def side(self, target: Target) -> TextSide:
        """Tokenizer, labels and limits of a model."""
        found = self.repository.text_side(target.model, target.version)
        return replace(found, tokenizer=self.tokenizer or found.tokenizer, labels=self.labels or found.labels)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument_group("load").add_argument(
        "--users",
        type=flags.count,
        default=USERS,
        metavar="N",
        help="of the throughput cells; the latency cells have one (default: %(default)s)",
    )
    add_exam_arguments(parser)
    flags.add_common_arguments(parser, several_models=True)


def add_exam_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of accuracy and of the models' files; `exam` reads them."""
    group = parser.add_argument_group("accuracy and size")
    group.add_argument(
        "--eval-data",
        type=Path,
        metavar="FILE",
        help="labelled texts (.csv, .tsv, .jsonl); without it accuracy is not measured. Columns: --text-column and",
    )
    group.add_argument("--label-column", default="label", metavar="NAME", help="(default: %(default)s)")
    group.add_argument(
        "--repository",
        type=Path,
        metavar="FOLDER",
        help="the model repository that the server serves: sizes, tokenizer, labels (default: ./model_repository, if "
        "it is there and the server is on this machine)",
    )
    group.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json of the tensor models")
    group.add_argument("--labels", nargs="+", default=[], metavar="NAME", help="the labels, in the order of their ids")


def exam(options: argparse.Namespace, session: Session) -> Exam:
    """What the flags of `add_exam_arguments` say.

    Raises:
        UsageError: a file that is not there or cannot be used.
    """
    from loadtest.conclusions.accuracy import LabelledTexts
    from loadtest.conclusions.facts import Repository
    from loadtest.server_side.machine import hardware_of

    flags.distinct("--labels", options.labels)
    if options.tokenizer is not None and not options.tokenizer.is_file():
        raise UsageError(f"--tokenizer {options.tokenizer}: no such file; expected a tokenizer.json")
    data = None
    if options.eval_data is not None:
        data = LabelledTexts.read(options.eval_data, text_column=options.text_column, label_column=options.label_column)
    here = not hardware_of(session.url).startswith(REMOTE)
    repository = Repository.given(options.repository, server_is_here=here)
    return Exam(data, repository, options.tokenizer, tuple(options.labels), session.timeout_s)


def precision_specs(session: Session, targets: Sequence[Target], users: int) -> list[CellSpec]:
    """The latency cells of all models, then their throughput cells.

    Raises:
        UsageError: settings that do not go together.
    """
    from loadtest.results import slug

    # A latency cell has one user, and so one process.
    loads = (("latency", 1, replace(session, processes=1)), ("throughput", users, session))
    return [
        replace(
            one.spec(SERIES, target.model, batch_size=1, workload=Workload(users=number)),
            id=f"{SERIES}-{slug(target.model)}-{name}",
        )
        for name, number, one in loads
        for target in targets
    ]


def without_unfit(targets: Sequence[Target], exam: Exam) -> Exam:
    """The exam without the models that cannot sit it, as far as the files tell before anything is measured.

    Raises:
        UsageError: none of them can.
    """
    if exam.data is None:
        return exam
    reasons = {target.model: _unfitness(target, exam.data, exam) for target in targets}
    unfit = {model: reason for model, reason in reasons.items() if reason}
    if unfit and len(unfit) == len(targets):
        raise UsageError(next(iter(unfit.values())))
    return replace(exam, without=unfit)


def _unfitness(target: Target, data: LabelledTexts, exam: Exam) -> str:
    from loadtest.conclusions import accuracy

    try:
        accuracy.check(target, data, exam.side(target))
    except UsageError as exc:
        return str(exc)
    return ""


def check(targets: Sequence[Target], exam: Exam) -> None:
    """Whether every model's accuracy can be measured, as far as the files tell before anything is measured.

    Raises:
        UsageError: one's cannot.
    """
    for reason in without_unfit(targets, exam).without.values():
        raise UsageError(reason)


def measure_precision(
    session: Session, targets: Sequence[Target], exam: Exam, specs: Sequence[CellSpec], folder: RunFolder
) -> Finding:
    """Measures the cells, then the accuracies, and stores what is known of each model.

    A model whose accuracy cannot be measured does not lose the others theirs.

    Raises:
        SweepStoppedError: Ctrl-C, or the server is gone.
    """
    from loadtest import campaign
    from loadtest.sweep import SweepStoppedError, sweep

    _put_facts(folder, targets, exam)  # size and architecture stand, whatever happens to the server
    found = campaign.finding_of(sweep(specs, targets, session, folder))
    if exam.data is None:
        return replace(found, lines=("Accuracy was not measured: --eval-data names labelled texts.",))
    try:
        accuracies = [_accuracy(target, exam, session, folder) for target in targets]
    except KeyboardInterrupt:
        raise SweepStoppedError("interrupted; what was measured is kept") from None
    return campaign.Finding(
        found.ok and all(one.ok for one in accuracies), tuple(line for one in accuracies for line in one.lines)
    )


def _accuracy(target: Target, exam: Exam, session: Session, folder: RunFolder) -> Finding:
    from loadtest.campaign import Finding

    if target.model in exam.without:
        reason = exam.without[target.model]
        return Finding(ok=True, lines=(f"Accuracy of {target.model} was not measured: {reason}",))
    try:
        return Finding(ok=True, lines=(_accuracy_sentence(target, exam, session, folder),))
    except LoadTestError as exc:
        return Finding(ok=False, lines=(f"Accuracy of {target.model} was not measured: {exc}",))


def _put_facts(folder: RunFolder, targets: Sequence[Target], exam: Exam) -> None:
    known = {facts.model for facts in folder.read().facts}
    for target in targets:
        if target.model not in known:
            folder.put_facts(_facts(target, exam, None))


def _facts(target: Target, exam: Exam, measured: Accuracy | None) -> ModelFacts:
    weights = target.tensor_model or target.model
    return ModelFacts(
        model=target.model,
        precision=target.precision,
        architecture=exam.repository.architecture(weights, target.version),
        size_bytes=exam.repository.size_bytes(weights, target.version),
        accuracy=measured.estimate if measured else None,
        texts=measured.texts if measured else 0,
        data=exam.data.name if measured and exam.data else "",
    )


def _accuracy_sentence(target: Target, exam: Exam, session: Session, folder: RunFolder) -> str:
    from loadtest.conclusions import accuracy

    data = exam.data
    if data is None:
        raise UsageError("accuracy needs --eval-data")
    known = next((facts for facts in folder.read().facts if facts.model == target.model), None)
    if known is not None and known.accuracy is not None and (known.data, known.texts) == (data.name, len(data.texts)):
        return f"Accuracy of {target.model}: {known.accuracy.value:.2%} (measured before)."
    with _progress(f"accuracy of {target.model}", len(data.texts)) as advance:
        measured = accuracy.measure(
            target, data, exam.side(target), session.access, timeout_s=exam.timeout_s, advance=advance
        )
    folder.put_facts(_facts(target, exam, measured))
    notes = [
        f"{number} {what}"
        for number, what in (
            (measured.refused, "refused, counted as wrong"),
            (measured.truncated, "cut to its longest"),
        )
        if number
    ]
    return (
        f"Accuracy of {target.model}: {_with_interval(measured.estimate)} of {measured.texts:,} texts of "
        f"{data.name}{'; ' if notes else ''}{', '.join(notes)}."
    )


def _with_interval(estimate: Estimate) -> str:
    interval = (
        "" if estimate.low is None or estimate.high is None else f" ({estimate.low:.2%} to {estimate.high:.2%}, 95 %)"
    )
    return f"{estimate.value:.2%}{interval}"


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, else a line; on stderr."""
    if not sys.stderr.isatty():
        print(f"{what}: {total:,} texts", file=sys.stderr, flush=True)
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=" texts", leave=False) as bar:
        yield bar.update


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    session = flags.session(options)
    from loadtest import campaign, measure

    asked = exam(options, session)
    targets = [measure.inspect(session, model) for model in session.models]
    specs = precision_specs(session, targets, options.users)
    for target in targets:
        measure.check([spec for spec in specs if spec.model == target.model], target)
    check(targets, asked)
    if session.dry_run:
        return campaign.print_plan(specs, session, "Then accuracy, if there is --eval-data.")

    def work(folder: RunFolder) -> campaign.Finding:
        return measure_precision(session, targets, asked, specs, folder)

    return campaign.conduct(session, work, next_step=campaign.follow_up(session, NEXT), series=(SERIES,))
