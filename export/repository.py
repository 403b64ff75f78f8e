"""The model repository on disk: which versions it has, and adding the next one whole or not at all.

    staging() ── lock ── finish or remove what a killed export left
        │
        ├── folder(model, version)      filled by the caller, in a place where Triton does not look
        ├── publish(model, version, configs)
        └── commit()   fsync ── journal ── rename: tensor models first, the text model last;
                                           in a model the version folder first, its configs last

A rename is all or nothing, so at any moment every version folder and every config is whole. Before the first
rename the list of them all is written down (`export.journal`); from there on the export counts as done: a
commit that fails is undone, one that is killed is finished by the next export. Until then a server sees at most
one version of the tensor models that no text model calls yet, and their version policy keeps two.

Triton takes every folder in a model repository for a model, even one whose name begins with a dot, and does not
start when it has no version; when it polls, it reloads a model as soon as anything inside its folder changes,
or the time of its config (seen with 2.51). So staging lies beside the repository, and a config that stays the
same is not touched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bert_triton_client.contract import LABELS_FILE, PRECISIONS, tensor_model_name
from export import disk, journal
from export.errors import ExportError, LabelError, RepositoryBusyError, RepositoryError
from export.manifest import read_labels
from export.staging import Staging

LOCK_FILE = ".export.lock"
STAGING_FOLDER = ".export"


class ModelRepository:
    """A model repository; it need not exist before the first `staging`.

    Attributes:
        path: the folder, absolute.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()

    def models(self) -> list[str]:
        """Every folder that Triton takes for a model."""
        return sorted(folder.name for folder in _folders(self.path) if not folder.name.startswith("."))

    def versions(self, model: str) -> list[int]:
        """The published versions of ``model``, lowest first. Triton counts no folder with a leading zero."""
        names = (folder.name for folder in _folders(self.path / model))
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name[0] != "0")

    def without_versions(self) -> list[str]:
        """Models that have a config and nothing to serve: Triton does not start on a repository that has one."""
        return [model for model in self.models() if not self.versions(model)]

    def next_version(self, name: str) -> int:
        """The version that the next export of the text model ``name`` gives to it and to its tensor models."""
        models = [name, *(tensor_model_name(name, precision) for precision in PRECISIONS)]
        return 1 + max((version for model in models for version in self.versions(model)), default=0)

    def labels(self, name: str) -> list[str] | None:
        """The labels of the newest version of the text model ``name``; None when it has no version.

        Raises:
            RepositoryError: it is no text model, or they cannot be read.
        """
        versions = self.versions(name)
        if not versions:
            return None
        folder = self.path / name / str(versions[-1])
        if not (folder / LABELS_FILE).exists():
            raise RepositoryError(
                f"{name} is no text model: {folder} has no {LABELS_FILE}; export under another --name"
            )
        return read_labels(folder)

    def check_labels(self, name: str, labels: Sequence[str]) -> None:
        """Holds ``labels`` to those that the text model ``name`` has served so far.

        Raises:
            LabelError: they differ. Whoever calls the model by its name would get other answers.
        """
        served = self.labels(name)
        if served is not None and list(labels) != served:
            raise LabelError(
                f"the labels of {name} would change from {', '.join(served)} (version {self.versions(name)[-1]}) to "
                f"{', '.join(labels)}; export under another --name, or allow it with --allow labels"
            )

    @contextlib.contextmanager
    def staging(self, *, allow_labels: bool = False) -> Iterator[Staging]:
        """Holds the repository for one export: locks it, tidies up after killed ones, and cleans up in the end.

        Args:
            allow_labels: whether new versions may have other labels, inputs or outputs than the last ones.

        Raises:
            RepositoryError: the repository cannot be written, or the disk ran full, here or in the caller's block.
            RepositoryBusyError: another export holds it.
        """
        with disk.explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            with disk.explained(self.path):
                finished = self._recover()
                place = self._place()
            try:
                yield Staging(self, place, allow_labels, finished)
            except OSError as exc:
                if exc.errno in disk.NO_ROOM or (exc.errno in disk.NOT_ALLOWED and _concerns(exc, place)):
                    raise RepositoryError(disk.explain(exc, self.path)) from exc
                raise
            except ExportError:
                raise
            except Exception as exc:
                if disk.is_full(place):
                    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    raise RepositoryError(disk.explain(full, self.path)) from exc
                raise
            finally:
                if not journal.is_pending(place):
                    shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path / LOCK_FILE
        with disk.explained(path), contextlib.ExitStack() as stack:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                raise RepositoryBusyError(
                    f"{self.path} is in use by another export ({holder or 'which has just begun'}): "
                    "wait until it has ended, or end it, and export again"
                ) from exc
            started = time.strftime("%Y-%m-%d %H:%M:%S %z")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {started}\n".encode(), 0)
            held = stack.pop_all()
        with held:
            yield

    def _recover(self) -> list[str]:
        """Finishes or removes what killed exports left; returns what was published by that."""
        finished = []
        for place in [self._sibling(), *(folder / STAGING_FOLDER for folder in (self.path, *_folders(self.path)))]:
            if journal.is_pending(place):
                finished += journal.finish(place, self.path)
            if place.exists():
                shutil.rmtree(place)
        return finished

    def _place(self) -> Path:
        """A new, empty folder from which things can be renamed into the repository, where Triton does not look.

        Beside the repository where that is possible. Where it is not (a volume mounted as the repository), inside the
        folder of a model that has versions: a Triton that polls reloads that model meanwhile, but none fails to
        start. With no such model there is nothing that could be disturbed.
        """
        sibling = self._sibling()
        probe = self.path / f"{LOCK_FILE}.probe"
        try:
            sibling.mkdir()
            (sibling / probe.name).touch()
            (sibling / probe.name).replace(probe)
        except OSError:
            shutil.rmtree(sibling, ignore_errors=True)
        else:
            return sibling
        finally:
            probe.unlink(missing_ok=True)
        hosts = [self.path / model for model in self.models() if self.versions(model)]
        place = [*hosts, self.path][0] / STAGING_FOLDER
        place.mkdir()
        return place

    def _sibling(self) -> Path:
        return self.path.with_name(f".{self.path.name}{STAGING_FOLDER}")


def _folders(path: Path) -> list[Path]:
    """The folders in ``path``; none when it does not exist."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        found = f"{path} cannot be read as a folder of a model repository: {exc.strerror}"
        raise RepositoryError(f"{found}; correct that, or give another --output") from exc


def _concerns(error: OSError, place: Path) -> bool:
    return isinstance(error.filename, str) and Path(error.filename).resolve().is_relative_to(place)
