"""One cell: the generator's load, the server's counters over the same window, and what they mean together.

Owns the order of these steps; each is another module's. Talks to the server only through `loadtest.target` and
`loadtest.server_side.counters`; the load comes from child processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest import generator, statistics, verdict
from loadtest import target as targets
from loadtest.cell import CellResult, CellSpec, ServerSide
from loadtest.payloads import Payloads
from loadtest.server_side import counters, machine

if TYPE_CHECKING:
    from loadtest.options import Session
    from loadtest.samples import Samples
    from loadtest.target import Target

INSPECT_TIMEOUT_S = 10.0


def inspect(session: Session, model: str, *, timeout_s: float = INSPECT_TIMEOUT_S) -> Target:
    """Asks the server what ``model`` is and takes.

    Raises:
        TargetError: the server is not there, or the model cannot be tested.
        UsageError: tensor names that the model does not have.
    """
    return targets.inspect(
        session.url,
        model,
        version=session.version,
        names=session.names,
        access=session.access,
        timeout_s=timeout_s,
    )


def check(specs: Sequence[CellSpec], target: Target) -> None:
    """Whether ``specs`` can be asked of their target at all: sizes, texts. Nothing is sent.

    Raises:
        UsageError: a batch size over the model's, or a file of texts that cannot be used.
    """
    for spec in specs:
        targets.check_batch_size(target, spec.batch_size)
    if specs:
        Payloads(specs[0], target)


class _Window:
    """Reads the server's counters when the generator says that the window begins and ends."""

    def __init__(self, watch: counters.Watch) -> None:
        self._watch = watch
        self._running = False
        self.server: ServerSide | None = None

    def on_event(self, event: str) -> None:
        if event == "window-start":
            self._watch.start()
            self._running = True
        elif event == "window-end":
            self.stop()

    def stop(self) -> None:
        if self._running:
            self._running = False
            self.server = self._watch.stop()

    def close(self) -> None:
        """Whatever happened to the generator, nothing of the watch is left."""
        self.stop()
        self._watch.close()


def measure(spec: CellSpec, target: Target, session: Session) -> tuple[CellResult, Samples]:
    """Measures one cell. Ctrl-C in its window ends it early: the result then says `INTERRUPTED`.

    Raises:
        KeyboardInterrupt: Ctrl-C before the window; nothing was measured.
        GeneratorError: the load generator broke; nothing was measured.
        UsageError: texts that cannot be read or do not suit the model.
    """
    watch = counters.Watch(target, session.access, session.metrics_url, session.server_pid)
    window = _Window(watch)
    try:
        outcome = generator.run(spec, target, session.access, on_event=window.on_event, distributed=session.distributed)
    finally:
        window.close()
    if not outcome.started_at:
        raise KeyboardInterrupt
    client = statistics.client_side(outcome.samples, outcome.duration_s, spec.batch_size, outcome.failure_examples)
    found, reasons, warnings = verdict.judge(
        spec,
        client,
        outcome.side,
        window.server,
        interrupted=outcome.interrupted,
        server_problem=watch.problem,
    )
    hardware = session.hardware or machine.hardware_of(spec.url)
    result = CellResult(
        spec=spec,
        setting=targets.setting(target, hardware=hardware, lengths=outcome.side.lengths),
        started_at=outcome.started_at,
        client=client,
        generator=outcome.side,
        server=window.server,
        verdict=found,
        reasons=reasons,
        warnings=warnings,
    )
    return result, outcome.samples
