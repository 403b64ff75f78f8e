"""What ``python -m loadtest tables`` does, step by step, each built from the parts of the single commands.

Owns which cells there are; `loadtest.commands.plan` carries the steps out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loadtest.cell import CellSpec, Workload
from loadtest.commands import capacity, cost, hardware, precision
from loadtest.commands.batch_size import sizes_for
from loadtest.commands.concurrency import concurrency_specs, knee_sentence
from loadtest.commands.plan import Step

if TYPE_CHECKING:
    from loadtest.campaign import Finding
    from loadtest.options import Session
    from loadtest.results import RunFolder
    from loadtest.target import Target

PROTOCOL_SERIES = "protocol"
CACHE_SERIES = "cache"
REPEAT_SHARE = 0.5


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        session: of the command.
        target: the model of batch sizes, concurrency and capacity.
        compared: the models of the precision tables.
        exam: how their accuracy is measured.
        options: the command's own flags.
    """

    session: Session
    target: Target
    compared: tuple[Target, ...]
    exam: precision.Exam
    options: argparse.Namespace


def all_steps(subject: Subject) -> list[Step]:
    """The steps, in order, checked as far as can be without measuring.

    Raises:
        UsageError: sizes, users or texts that the models cannot be asked.
    """
    from loadtest import measure

    steps = [
        *_precision_step(subject),
        _batch_size_step(subject),
        _concurrency_step(subject),
        *_http_step(subject),
        *_cache_step(subject),
        _capacity_step(subject),
        *_cost_step(subject),
        _hardware_step(subject),
    ]
    for step in steps:
        for target in (subject.target, *subject.compared):
            measure.check([spec for spec in step.specs if spec.model == target.model], target)
    return steps


def _precision_step(subject: Subject) -> list[Step]:
    if not subject.compared:
        return []
    session, exam = subject.session, subject.exam
    specs = precision.precision_specs(session, subject.compared, precision.USERS)

    def work(folder: RunFolder) -> Finding:
        return precision.measure_precision(session, subject.compared, exam, specs, folder)

    return [Step("precision", f"T1, T2: {', '.join(one.model for one in subject.compared)}", work, tuple(specs))]


def _sweep_step(
    name: str, what: str, specs: Sequence[CellSpec], subject: Subject, *, session: Session | None = None, note: str = ""
) -> Step:
    """A step that measures cells of the text model."""

    def work(folder: RunFolder) -> Finding:
        from loadtest.campaign import finding_of
        from loadtest.sweep import sweep

        asked = session or subject.session
        cells = sweep(specs, [replace(subject.target, url=asked.url)], asked, folder)
        return finding_of(cells, knee_sentence(cells) if name == "concurrency" else "", note)

    return Step(name, what, work, tuple(specs))


def _batch_size_step(subject: Subject) -> Step:
    from loadtest.conclusions.capacity_search import batch_specs

    sizes, note = sizes_for(subject.target, subject.options.sizes)
    specs = batch_specs(subject.session, subject.target, sizes, Workload(users=1))
    return _sweep_step("batch-size", f"T3: {' '.join(map(str, sizes))} texts a request", specs, subject, note=note)


def _concurrency_step(subject: Subject) -> Step:
    users = subject.options.users
    specs = concurrency_specs(subject.session, subject.target, users)
    return _sweep_step("concurrency", f"{' '.join(map(str, users))} users", specs, subject)


def _one_cell(session: Session, series: str) -> list[CellSpec]:
    workload = Workload(users=max(precision.USERS, session.processes))
    return [session.spec(series, session.model, batch_size=1, workload=workload)]


def _http_step(subject: Subject) -> list[Step]:
    if subject.options.http_url is None:
        return []
    session = replace(subject.session, url=subject.options.http_url)
    specs = _one_cell(session, PROTOCOL_SERIES)
    return [_sweep_step("http", f"{precision.USERS} users over HTTP", specs, subject, session=session)]


def _cache_step(subject: Subject) -> list[Step]:
    if not subject.target.cache:
        return []
    session = replace(subject.session, texts=replace(subject.session.texts, repeat_share=REPEAT_SHARE))
    what = f"{REPEAT_SHARE:.0%} of the texts repeated, for the {subject.target.cache}"
    return [_sweep_step("cache", what, _one_cell(session, CACHE_SERIES), subject, session=session)]


def _capacity_step(subject: Subject) -> Step:
    from loadtest.conclusions.capacity import MAX_STEPS

    sizes, _ = sizes_for(subject.target, subject.options.sizes)
    limit_ms = subject.options.p99_ms

    def work(folder: RunFolder) -> Finding:
        from loadtest.campaign import Finding
        from loadtest.conclusions.capacity_search import find_capacity

        search = find_capacity(subject.session, subject.target, folder, sizes=sizes, users=1, p99_limit_ms=limit_ms)
        found = search.capacity.largest_batch_size is not None or search.capacity.rate_per_s is not None
        return Finding(found, capacity.sentences(search))

    return Step("capacity", f"largest batch and load with P99 <= {limit_ms:g} ms", work, more_cells=MAX_STEPS)


def _cost_step(subject: Subject) -> list[Step]:
    if subject.options.monthly_price is None:
        return []

    def work(folder: RunFolder) -> Finding:
        from loadtest.campaign import Finding

        costs = cost.put_costs(folder, subject.options, subject.target.model)
        return Finding(ok=True, lines=tuple(sentence for _, sentence in costs))

    return [Step("cost", f"T5: {subject.options.monthly_price:g} a month", work)]


def _hardware_step(subject: Subject) -> Step:
    def work(folder: RunFolder) -> Finding:
        from loadtest.campaign import Finding

        sentence = hardware.add_row(folder, subject.target.model, name=None, store=subject.options.store)
        return Finding(ok=True, lines=(sentence,))

    return Step("hardware", "T4: this machine's row", work)
