"""Tables T1 to T6 of a run, by number. Which figures stand in them is said in the modules of the single tables."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.cell import Run
from loadtest.errors import UsageError
from loadtest.report.cost_tables import t4, t5
from loadtest.report.load_tables import t3, t6
from loadtest.report.precision_tables import t1, t2
from loadtest.report.table import Table

NUMBERS = (1, 2, 3, 4, 5, 6)
README_NUMBERS = (1, 2, 3, 4, 5)


def build(number: int, run: Run, limit_ms: float | None = None) -> Table:
    """One table.

    Args:
        number: 1 to 6.
        run: what was measured.
        limit_ms: the P99 limit to judge by; None takes the run's own, else the published one.

    Raises:
        UsageError: there is no such table.
    """
    builders: dict[int, Callable[[], Table]] = {
        1: lambda: t1(run).measured_first(),
        2: lambda: t2(run).measured_first(),
        3: lambda: t3(run, limit_ms).measured_first(),
        4: lambda: t4(run).measured_first(),
        5: lambda: t5(run).measured_first(),
        6: lambda: t6(run, limit_ms),
    }
    if number not in builders:
        raise UsageError(f"table T{number}: expected T1 to T{NUMBERS[-1]}")
    return builders[number]()


def build_all(run: Run, limit_ms: float | None = None) -> list[Table]:
    """All tables, measured or not."""
    return [build(number, run, limit_ms) for number in NUMBERS]
