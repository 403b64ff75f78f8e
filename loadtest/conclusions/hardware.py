"""The hardware table's measured rows: which cell of a run stands for a machine, and the file that keeps the rows.

Nothing can be typed in: a row is made of a cell that was measured and counts. Which one: of the cells with a closed
workload and distinct texts that stayed within the limits of the model's measured capacity (its P99 limit; verdict ok),
the one with the most sentences/s. Of a run without a capacity, that is, without a limit, the knee of its concurrency
sweep (`loadtest.conclusions.capacity.knee`), since the most sentences/s alone would be those of the longest queue.
"""

from __future__ import annotations

from pathlib import Path

from loadtest.cell import CLOSED, OK, Capacity, CellResult, HardwareRow, Run
from loadtest.errors import ResultsError, UsageError

STORE = Path("results/hardware.json")
# How `loadtest.server_side.machine.hardware_of` begins where the server's machine cannot be looked at.
REMOTE = "remote host"
SERIES = ("batch-size", "concurrency", "capacity")


def best_cell(run: Run, model: str) -> CellResult | None:
    """The cell that stands for the machine, by the module's rule; None if none does."""
    from loadtest.conclusions.capacity import knee, within
    from loadtest.conclusions.capacity_search import CONCURRENCY_SERIES

    cells = [cell for cell in run.cells if cell.spec.model == model and _counts(cell)]
    capacity = _capacity(run, model)
    if capacity is None:
        return knee([cell for cell in cells if cell.spec.series == CONCURRENCY_SERIES])
    inside = [cell for cell in cells if within(cell, capacity.p99_limit_ms)]
    return max(inside, key=lambda cell: cell.client.sentences_per_s.value, default=None)


def _capacity(run: Run, model: str) -> Capacity | None:
    return next((one for one in run.capacities if one.model == model), None)


def _counts(cell: CellResult) -> bool:
    spec = cell.spec
    return (
        cell.verdict == OK
        and spec.series in SERIES
        and spec.workload.kind == CLOSED
        and spec.texts.repeat_share == 0
        and "p99" in cell.client.latency_ms
    )


def row_of(run: Run, model: str, name: str | None = None) -> HardwareRow:
    """The measured row of a run's machine.

    Args:
        run: what was measured.
        model: its name in Triton.
        name: what to call the machine, beside what it is.

    Raises:
        ResultsError: no cell of the run can stand for the machine.
        UsageError: the server was on another machine, and nothing says which.
    """
    cell = best_cell(run, model)
    if cell is None:
        raise ResultsError(f"{_nothing(run, model)} Measured: {', '.join(_models(run)) or 'nothing'}.")
    hardware = cell.setting.hardware
    if hardware.startswith(REMOTE) and name is None:
        raise UsageError(
            f"run {run.name} asked a {hardware}, which says nothing of its hardware: name it with --name, or measure "
            "again with --hardware"
        )
    return HardwareRow(
        hardware=hardware if name is None else f"{name} ({hardware})",
        model=model,
        precision=cell.setting.precision,
        batch_size=cell.spec.batch_size,
        workload=str(cell.spec.workload),
        sentences_per_s=cell.client.sentences_per_s.value,
        p99_ms=cell.client.latency_ms["p99"].value,
        measured_on=cell.started_at[:10],
        run=run.name,
    )


def _nothing(run: Run, model: str) -> str:
    capacity = _capacity(run, model)
    if capacity is None:
        return (
            f"run {run.name} has neither a capacity nor a concurrency sweep of {model} that counts: run "
            "`python -m loadtest capacity` into it first."
        )
    return f"run {run.name} has no cell of {model} that counts and keeps P99 within {capacity.p99_limit_ms:g} ms."


def _models(run: Run) -> list[str]:
    return sorted({cell.spec.model for cell in run.cells})


def models_with_rows(run: Run) -> list[str]:
    """The models of a run that a row can be made of, in alphabetical order."""
    return [model for model in _models(run) if best_cell(run, model) is not None]


class Store:
    """A file of rows, one for each hardware, model and precision."""

    def __init__(self, path: Path = STORE) -> None:
        self.path = path

    def rows(self) -> tuple[HardwareRow, ...]:
        """All rows; none if the file is not there yet.

        Raises:
            ResultsError: it cannot be read.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(tuple[HardwareRow, ...]).validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as exc:
            raise ResultsError(
                f"{self.path} cannot be read ({str(exc).splitlines()[0]}): remove it and add the runs' rows again"
            ) from exc

    def put(self, row: HardwareRow) -> HardwareRow | None:
        """Keeps ``row``, in place of an older one of the same hardware, model and precision.

        Returns:
            A row that stays because it was measured on a later day; None if ``row`` was stored.

        Raises:
            ResultsError: the file cannot be read or written.
        """
        from pydantic import TypeAdapter

        from loadtest.results import write_atomically

        rows = self.rows()
        newer = next((kept for kept in rows if _key(kept) == _key(row) and kept.measured_on > row.measured_on), None)
        if newer is not None:
            return newer
        kept = sorted([*(other for other in rows if _key(other) != _key(row)), row], key=_key)
        write_atomically(self.path, TypeAdapter(tuple[HardwareRow, ...]).dump_json(tuple(kept), indent=2) + b"\n")
        return None


def _key(row: HardwareRow) -> tuple[str, str, str]:
    return row.hardware, row.model, row.precision
