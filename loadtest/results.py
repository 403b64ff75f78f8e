"""The run folder: what was measured, as files that are whole or absent, so that a run can go on where it stopped.

Layout of ``results/<run>/``: ``run.json``; ``cells/<id>.json`` with ``cells/<id>.npz`` (raw samples); ``facts/``,
``capacity/``, ``cost/`` and ``hardware/`` with a file a record; ``report.*`` and ``tables/``, which `loadtest.report`
writes. Owns reading, writing and locking of these files; not what is in them (`loadtest.cell`) or made of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from loadtest.cell import (
    FAILED,
    OK,
    Capacity,
    CellResult,
    CellSpec,
    Cost,
    HardwareRow,
    ModelFacts,
    Run,
    RunInfo,
)
from loadtest.errors import ResultsError, UsageError
from loadtest.samples import Samples

INFO_FILE = "run.json"
LOCK_FILE = ".lock"
# A cell with another verdict is measured again when its run is resumed.
SETTLED = (OK, FAILED)

Record = TypeVar("Record")


def slug(text: str) -> str:
    """``text`` as part of a file name: lower-case letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.") or "unnamed"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, finds it whole or not at all; makes its folder.

    Raises:
        ResultsError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as exc:
        raise _unwritable(path, exc) from exc


class _Kind(Generic[Record]):
    """One kind of record: its folder and its JSON form."""

    def __init__(self, folder: str, record: type[Record]) -> None:
        self.folder = folder
        self._json: TypeAdapter[Record] = TypeAdapter(record)

    def path(self, root: Path, name: str) -> Path:
        return root / self.folder / f"{name}.json"

    def write(self, path: Path, record: Record) -> None:
        write_atomically(path, self._json.dump_json(record, indent=2) + b"\n")

    def read(self, path: Path) -> Record:
        """Fields of a later version that this one does not know are left out."""
        try:
            return self._json.validate_json(path.read_bytes(), strict=True)
        except OSError as exc:
            raise ResultsError(f"{path} cannot be read: {exc.strerror or exc}") from exc
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise _damaged(path, f"{place}: {first['msg']}" if place else first["msg"]) from exc
        except UsageError as exc:  # a spec that cannot be
            raise _damaged(path, str(exc)) from exc

    def read_all(self, root: Path) -> Iterator[Record]:
        for path in sorted((root / self.folder).glob("[!.]*.json")):
            yield self.read(path)


_INFO = _Kind("", RunInfo)
_CELLS = _Kind("cells", CellResult)
_FACTS = _Kind("facts", ModelFacts)
_CAPACITY = _Kind("capacity", Capacity)
_COST = _Kind("cost", Cost)
_HARDWARE = _Kind("hardware", HardwareRow)
_RUN: TypeAdapter[Run] = TypeAdapter(Run)


def run_to_json(run: Run) -> dict[str, Any]:
    """A run as plain JSON values."""
    plain: dict[str, Any] = _RUN.dump_python(run, mode="json")
    return plain


class RunFolder:
    """A run's files. A context manager: leaving it lets other runs have the folder.

    Attributes:
        path: the folder.
        info: what run it is.
    """

    def __init__(self, path: Path, info: RunInfo, lock: IO[str] | None = None) -> None:
        self.path = path
        self.info = info
        self._lock = lock

    @classmethod
    def create_or_resume(cls, path: Path, info: RunInfo) -> RunFolder:
        """Makes the folder, or takes up the run that it holds (whose own `info` then stands), for this process alone.

        Raises:
            ResultsError: it cannot be written, holds something else, is damaged, or another run is using it.
        """
        _make_folder(path)
        lock = _locked(path)
        try:
            if (path / INFO_FILE).exists():
                return cls(path, _INFO.read(path / INFO_FILE), lock)
            _check_empty(path)
            _INFO.write(path / INFO_FILE, info)
        except BaseException:
            lock.close()
            raise
        return cls(path, info, lock)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run to read, or to write reports of; it may be under way.

        Raises:
            ResultsError: no run is there, or it is damaged.
        """
        if not path.is_dir():
            raise ResultsError(f"{path} is not a folder: expected a run's, for example results/{path.name}")
        if not (path / INFO_FILE).is_file():
            raise ResultsError(f"{path} is not a run folder: it has no {INFO_FILE}")
        return cls(path, _INFO.read(path / INFO_FILE))

    def close(self) -> None:
        """Lets other runs have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cell(self, cell_id: str) -> CellResult | None:
        """A stored cell; None if there is none.

        Raises:
            ResultsError: its file is damaged.
        """
        path = _CELLS.path(self.path, cell_id)
        return _CELLS.read(path) if path.exists() else None

    def settled(self, spec: CellSpec) -> CellResult | None:
        """The stored result of ``spec``, if it need not be measured again.

        Raises:
            ResultsError: what is stored under its id was measured otherwise, or is damaged.
        """
        stored = self.cell(spec.id)
        if stored is None:
            return None
        if stored.spec != spec:
            raise ResultsError(
                f"{self.path} holds cell {spec.id} measured otherwise: {'; '.join(_differences(stored.spec, spec))}; "
                "give the same flags to resume, or another folder with --output"
            )
        return stored if stored.verdict in SETTLED else None

    def put_cell(self, result: CellResult, samples: Samples) -> None:
        """Stores a measurement: samples first, so that a result always has them."""
        path = _CELLS.path(self.path, result.spec.id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            samples.save(path.with_suffix(".npz"))
        except OSError as exc:
            raise _unwritable(path.with_suffix(".npz"), exc) from exc
        _CELLS.write(path, result)

    def samples(self, cell_id: str) -> Samples | None:
        """The raw samples of a cell; None if there are none.

        Raises:
            ResultsError: their file is damaged.
        """
        path = self.path / _CELLS.folder / f"{cell_id}.npz"
        if not path.exists():
            return None
        try:
            return Samples.load(path)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as exc:
            raise _damaged(path, str(exc)) from exc

    def put_facts(self, facts: ModelFacts) -> None:
        """Stores what is known of a model; replaces what was."""
        _FACTS.write(_FACTS.path(self.path, slug(facts.model)), facts)

    def put_capacity(self, capacity: Capacity) -> None:
        """Stores the capacity of a model; replaces what was."""
        _CAPACITY.write(_CAPACITY.path(self.path, slug(capacity.model)), capacity)

    def put_cost(self, cost: Cost) -> None:
        """Stores a cost; replaces that of the same option."""
        _COST.write(_COST.path(self.path, slug(cost.option)), cost)

    def put_hardware(self, row: HardwareRow) -> None:
        """Stores a row of the hardware table; replaces that of the same hardware, model and batch size."""
        name = slug(f"{row.hardware} {row.model} b{row.batch_size}")
        _HARDWARE.write(_HARDWARE.path(self.path, name), row)

    def read(self) -> Run:
        """Everything in the folder.

        Raises:
            ResultsError: a file is damaged; its name is in the message.
        """
        return Run(
            self.path.resolve().name,
            self.info,
            tuple(sorted(_CELLS.read_all(self.path), key=lambda cell: (cell.started_at, cell.spec.id))),
            tuple(_FACTS.read_all(self.path)),
            tuple(_CAPACITY.read_all(self.path)),
            tuple(_COST.read_all(self.path)),
            tuple(_HARDWARE.read_all(self.path)),
        )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def _check_empty(path: Path) -> None:
    """A folder of something else is not made a run folder."""
    strangers = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if strangers:
        raise ResultsError(
            f"--output {path} holds {strangers[0]!r} but no {INFO_FILE}: it is not a run folder; name a new one"
        )


def _locked(path: Path) -> IO[str]:
    """An open file that nobody else has locked; the system unlocks it when this process ends, however it ends."""
    try:
        file = (path / LOCK_FILE).open("a+", encoding="ascii")
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ResultsError(
            f"{path} is being written by another run (process {owner}): wait for it, or name another with --output"
        ) from exc
    with contextlib.suppress(OSError):  # the number is for people only
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def _differences(stored: CellSpec, wanted: CellSpec) -> list[str]:
    pairs = [(field.name, getattr(stored, field.name), getattr(wanted, field.name)) for field in fields(CellSpec)]
    return [f"{name} was {was}, now {now}" for name, was, now in pairs if was != now]


def _unwritable(path: Path, exc: OSError) -> ResultsError:
    return ResultsError(f"{path} cannot be written: {exc.strerror or exc}; give a folder that can with --output")


def _damaged(path: Path, what: str) -> ResultsError:
    return ResultsError(f"{path} is damaged ({what}): remove it and resume the run, which measures it again")
