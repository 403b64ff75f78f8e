"""T1 (methods) and T2 (optimisation): a row a model, filled by whatever model of that architecture the run has."""

from __future__ import annotations

from collections.abc import Iterable

from loadtest.cell import CellResult, ModelFacts, Run
from loadtest.report import references
from loadtest.report.caption import caption
from loadtest.report.figures import gigabytes, measured, megabytes, percent, with_interval
from loadtest.report.selection import by_precision, latency_cell, throughput_cell
from loadtest.report.table import MEASURED, MISSING, PUBLISHED, Column, Table, Value, missing

NOT_A_TRANSFORMER = "not measured (not a transformer)"
Row = tuple[Value, ...]
NOTHING_PUBLISHED = tuple(Value("", MISSING) for _ in range(3))


def t1(run: Run) -> Table:
    """Methods: accuracy, sentences a second, memory."""
    columns = (
        Column("method", numeric=False),
        Column("accuracy, %", PUBLISHED),
        Column("sentences/s", PUBLISHED),
        Column("GPU memory, GB", PUBLISHED),
        Column("accuracy, %", MEASURED),
        Column("sentences/s", MEASURED),
        Column(f"{_device(run)} memory, GB", MEASURED),
        Column("model", MEASURED, numeric=False),
    )
    left = by_precision(run.facts)
    rows: list[Row] = []
    for method in references.T1:
        facts = next((fact for fact in left if fact.architecture and fact.architecture == method.architecture), None)
        published = _texts(method.accuracy_percent, method.sentences_per_s, method.gpu_memory_gb)
        if facts is not None:
            here = _t1_here(run, facts)
        else:
            here = missing(4) if method.architecture else missing(4, NOT_A_TRANSFORMER)
        rows.append((Value(method.name), *published, *here))
        left = [fact for fact in left if fact is not facts]
    rows += [(Value(_own_name(fact)), *NOTHING_PUBLISHED, *_t1_here(run, fact)) for fact in left]
    cells = _present(throughput_cell(run, fact.model) for fact in run.facts)
    return Table(
        "T1",
        "Methods: accuracy, speed, memory",
        columns,
        tuple(rows),
        caption(cells),
        (*_accuracy_notes(run), *_memory_notes(cells)),
        measured=bool(run.facts),
    )


def _t1_here(run: Run, fact: ModelFacts) -> Row:
    cell = throughput_cell(run, fact.model)
    memory = None if cell is None or cell.server is None else cell.server.memory_bytes
    return (
        _accuracy(fact),
        measured(cell, "" if cell is None else with_interval(cell.client.sentences_per_s)),
        measured(cell, gigabytes(memory)),
        Value(_model_name(fact)),
    )


def t2(run: Run) -> Table:
    """Versions of one model: accuracy, size, latency."""
    columns = (
        Column("version", numeric=False),
        Column("accuracy, %", PUBLISHED),
        Column("model size, MB", PUBLISHED),
        Column("latency, ms", PUBLISHED),
        Column("accuracy, %", MEASURED),
        Column("model size, MB", MEASURED),
        Column("p50 of one text, ms", MEASURED),
        Column("model", MEASURED, numeric=False),
    )
    left = by_precision(run.facts)
    rows: list[Row] = []
    for version in references.T2:
        facts = next((fact for fact in left if _is(version, fact)), None)
        published = _texts(version.accuracy_percent, version.size_mb, version.latency_ms)
        here = missing(4) if facts is None else _t2_here(run, facts)
        rows.append((Value(version.name), *published, *here))
        left = [fact for fact in left if fact is not facts]
    rows += [(Value(_own_name(fact)), *NOTHING_PUBLISHED, *_t2_here(run, fact)) for fact in left]
    notes = (
        "The published latency is one number of unknown kind; here it is the median of one text, one user.",
        "“INT8 quantised” is the int8 precision of BERT-base; of “distilled” and “pruned 50 %” nothing says which "
        "models they are, so nothing here can fill them.",
        *_accuracy_notes(run),
    )
    cells = _present(latency_cell(run, fact.model) for fact in run.facts)
    return Table(
        "T2",
        "Optimisation: accuracy, size, latency",
        columns,
        tuple(rows),
        caption(cells),
        notes,
        measured=bool(run.facts),
    )


def _is(version: references.Version, fact: ModelFacts) -> bool:
    return (
        bool(version.architecture)
        and fact.architecture == version.architecture
        and (fact.precision in version.precisions)
    )


def _t2_here(run: Run, fact: ModelFacts) -> Row:
    cell = latency_cell(run, fact.model)
    size = megabytes(fact.size_bytes)
    return (
        _accuracy(fact),
        Value(size) if size else Value("not known", MISSING),
        measured(cell, "" if cell is None else with_interval(cell.client.latency_ms.get("p50"))),
        Value(_model_name(fact)),
    )


def _own_name(fact: ModelFacts) -> str:
    """``sentiment_int8 (bert 6 x 384, int8)``."""
    words = [word for word in (fact.architecture, fact.precision) if word]
    return f"{fact.model} ({', '.join(words)})" if words else fact.model


def _model_name(fact: ModelFacts) -> str:
    return f"{fact.model} ({fact.precision})" if fact.precision else fact.model


def _accuracy(fact: ModelFacts) -> Value:
    if fact.accuracy is None:
        return Value("not measured", MISSING)
    value = fact.accuracy
    if value.low is None or value.high is None:
        return Value(percent(value.value))
    return Value(f"{percent(value.value)} ({percent(value.low)} to {percent(value.high)})")


def _accuracy_notes(run: Run) -> tuple[str, ...]:
    data = dict.fromkeys((fact.texts, fact.data) for fact in run.facts if fact.accuracy is not None)
    if not data:
        return ()
    said = "; ".join(f"{texts:,} labelled texts of {name}" for texts, name in data)
    return (f"Accuracy here: answers of the server to {said}, with a 95 % interval.",)


def _memory_notes(cells: Iterable[CellResult]) -> tuple[str, ...]:
    devices = {cell.server.device for cell in cells if cell.server and cell.server.memory_bytes is not None}
    if "CPU" in devices:
        return ("Memory here: resident memory of all server processes, every model that they had loaded included.",)
    return ("Memory here: all GPU memory in use, every loaded model included.",) if devices else ()


def _device(run: Run) -> str:
    """What the memory column is of: where nothing was measured, just memory."""
    cells = _present(throughput_cell(run, fact.model) for fact in run.facts)
    devices = sorted({cell.server.device for cell in cells if cell.server is not None})
    return " / ".join(devices) if devices else "server"


def _present(cells: Iterable[CellResult | None]) -> list[CellResult]:
    return [cell for cell in cells if cell is not None]


def _texts(*values: float | str | None) -> Row:
    return tuple(Value(value if isinstance(value, str) else "-" if value is None else f"{value:g}") for value in values)
