"""Cells in order, with progress, resume, and an early end that keeps what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loadtest import measure
from loadtest.cell import INTERRUPTED, OK, CellResult, CellSpec
from loadtest.errors import GeneratorError, LoadTestError, TargetError
from loadtest.progress import Progress

if TYPE_CHECKING:
    from loadtest.options import Session
    from loadtest.results import RunFolder
    from loadtest.target import Target

UNREACHABLE = "ServerUnreachableError"
PROBE_TIMEOUT_S = 5.0


class SweepStoppedError(LoadTestError):
    """The sweep ended early (Ctrl-C, or the server is gone); what was measured is in the run folder."""


def sweep(
    specs: Sequence[CellSpec], targets: Sequence[Target], session: Session, folder: RunFolder
) -> list[CellResult]:
    """Measures ``specs`` in order, but for those that the folder holds already, and stores each as it ends.

    Args:
        specs: what to measure.
        targets: the models that they name, from `loadtest.measure.inspect`.
        session: access, metrics and so on.
        folder: where results go.

    Raises:
        SweepStoppedError: Ctrl-C, or the server is gone. The folder holds what was measured.
        ResultsError: the folder holds one of the cells, measured otherwise; nothing is measured then.
        GeneratorError: the load generator broke.
    """
    target_of = {target.model: target for target in targets}
    settled = {spec.id: folder.settled(spec) for spec in specs}
    done: list[CellResult] = []
    try:
        with Progress(specs) as progress:
            for spec in specs:
                kept = settled[spec.id]
                progress.begin(spec)
                result = kept or _measure(spec, target_of[spec.model], session, folder)
                progress.end(result, kept=kept is not None)
                done.append(result)
                _check_going_on(result)
    except KeyboardInterrupt:
        raise SweepStoppedError("interrupted; what was measured is kept") from None
    return done


def _measure(spec: CellSpec, target: Target, session: Session, folder: RunFolder) -> CellResult:
    try:
        result, samples = measure.measure(spec, target, session)
    except GeneratorError as exc:  # users do not come up where nothing answers
        gone = _gone(session, spec.model)
        if gone:
            raise SweepStoppedError(f"stopped in {spec.id}: {gone}") from exc
        raise
    if result.verdict not in (OK, INTERRUPTED) and UNREACHABLE in result.client.failures:
        gone = _gone(session, spec.model)
        if gone:
            result = replace(result, verdict=INTERRUPTED, reasons=(gone,))
    folder.put_cell(result, samples)
    return result


def _gone(session: Session, model: str) -> str:
    """Why the server is taken to be gone, after requests could not reach it; "" if it answers a question."""
    try:
        measure.inspect(session, model, timeout_s=PROBE_TIMEOUT_S)
    except TargetError as exc:
        return f"the server is gone: {exc}"
    return ""


def _check_going_on(result: CellResult) -> None:
    if result.verdict == INTERRUPTED:
        raise SweepStoppedError(
            f"stopped in {result.spec.id}: {result.reasons[0] if result.reasons else 'interrupted'}"
        )
