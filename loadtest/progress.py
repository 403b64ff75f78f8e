"""How far a sweep is and how long it will still take, on stderr: a bar on a terminal, else a line a cell."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from loadtest.cell import CellResult, CellSpec

# Starting the generator's processes, bringing the users up, and the last answers.
OVERHEAD_S = 3.0
TICK_S = 1.0


def expected_s(spec: CellSpec) -> float:
    """Seconds that a cell takes if its least duration suffices."""
    return spec.warm_up_s + spec.duration_s + OVERHEAD_S


class TimeLeft:
    """Seconds that the rest of a sweep takes: the cells' own durations, scaled by how the measured ones went."""

    def __init__(self, specs: Sequence[CellSpec]) -> None:
        self._ahead = [expected_s(spec) for spec in specs]
        self._expected_s = 0.0
        self._seen_s = 0.0

    def finished(self, seconds: float | None) -> None:
        """The next cell is done in ``seconds``; None: it was measured before."""
        expected = self._ahead.pop(0)
        if seconds is not None:
            self._expected_s += expected
            self._seen_s += seconds

    def seconds(self, spent_s: float = 0.0) -> float:
        """What is left when the cell under way has taken ``spent_s``."""
        factor = self._seen_s / self._expected_s if self._expected_s else 1.0
        if not self._ahead:
            return 0.0
        return max(0.0, self._ahead[0] * factor - spent_s) + sum(self._ahead[1:]) * factor


def duration_text(seconds: float) -> str:
    """``45 s``, ``3 min 05 s``, ``1 h 02 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def cell_line(result: CellResult) -> str:
    """A measured cell in a line: what was asked, how much came back, how late, and whether it counts."""
    spec, client = result.spec, result.client
    p99 = client.latency_ms.get("p99")
    parts = [
        f"{spec.model}, batch size {spec.batch_size}, {spec.workload}: {client.sentences_per_s.value:.1f} sentences/s",
        f"p99 {p99.value:.1f} ms" if p99 else "no answer",
        *([f"{client.failed} failed"] if client.failed else []),
        result.verdict,
    ]
    # What to do about it stands in the report; here there is room for what it is.
    reasons = f" ({result.reasons[0].partition(';')[0]})" if result.reasons else ""
    return ", ".join(parts) + reasons


class Progress:
    """Shows a sweep's progress. A context manager."""

    def __init__(self, specs: Sequence[CellSpec]) -> None:
        self._specs = list(specs)
        self._left = TimeLeft(specs)
        self._done = 0
        self._began = time.monotonic()
        self._bar: Any = None
        self._over = threading.Event()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=len(self._specs), bar_format="{desc}|{bar:24}| {n_fmt}/{total_fmt} cells{postfix}", leave=False
            )
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.close()

    def begin(self, spec: CellSpec) -> None:
        """The next cell begins."""
        self._began = time.monotonic()
        if self._bar is not None:
            self._bar.set_description_str(f"batch size {spec.batch_size}, {spec.workload} ", refresh=False)
            self._show()

    def end(self, result: CellResult, *, kept: bool = False) -> None:
        """A cell has ended, or is ``kept`` from an earlier run."""
        self._left.finished(None if kept else time.monotonic() - self._began)
        self._began = time.monotonic()
        self._done += 1
        left = self._left.seconds()
        note = " (measured before)" if kept else ""
        tail = f"; about {duration_text(left)} left" if self._done < len(self._specs) else ""
        self._write(f"[{self._done}/{len(self._specs)}] {cell_line(result)}{note}{tail}")
        if self._bar is not None:
            self._bar.update()

    def _write(self, line: str) -> None:
        if self._bar is None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        else:
            self._bar.write(line, file=sys.stderr)

    def _show(self) -> None:
        left = self._left.seconds(time.monotonic() - self._began)
        self._bar.set_postfix_str(f"about {duration_text(left)} left")

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            self._show()
