"""Which versions of which models are served, and the folder in which Triton finds exactly those.

Triton reads no model repository here but a view of one, in the server's own temporary folder::

    view/sentiment/config.pbtxt    a copy
    view/sentiment/2 ──────────►   model_repository/sentiment/2

So what is served changes when it is asked for and checked, and not because somebody exported something meanwhile, not
even when the server is restarted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bert_triton_client.contract import CONFIG_FILE, LABELS_FILE, MANIFEST_FILE
from server.errors import RepositoryError
from server.model_config import CONFIGS_FOLDER, ModelConfig
from server.preflight import ModelFolder


@dataclass(frozen=True)
class ServedModel:
    """The versions of one model that are served.

    Attributes:
        folder: in the model repository; its name is the model's.
        versions: in ascending order.
        config: as it was when this was read.
        files: the config files, by their path in the folder, as they were then.
        manifests: of the versions: what tells a version from another one that has taken its number.
        labels: of each version; None where it has none.
    """

    folder: Path
    versions: tuple[int, ...]
    config: ModelConfig
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    manifests: tuple[bytes, ...] = field(default=(), repr=False)
    labels: Mapping[int, tuple[str, ...] | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name


@dataclass(frozen=True)
class Selection:
    """What is served, by model name."""

    models: Mapping[str, ServedModel]

    @classmethod
    def read(
        cls,
        repository: Path,
        names: Iterable[str],
        *,
        config_name: str | None = None,
        withdrawn: Mapping[str, Iterable[int]] | None = None,
        needed: Mapping[str, Iterable[int]] | None = None,
    ) -> Selection:
        """What the version policies of some models select; a tensor model's versions follow its text model's.

        Args:
            repository: the model repository.
            names: of the models.
            config_name: of ``--model-config-name``.
            withdrawn: versions, by model, that are not served.
            needed: versions, by model, that must stay.

        Raises:
            RepositoryError: a config cannot be read, a model has nothing to serve, or a text model calls a version of
                its tensor model that there is not.
        """
        out = {name: set(versions) for name, versions in (withdrawn or {}).items()}
        must = {name: set(versions) for name, versions in (needed or {}).items()}
        folders = {name: ModelFolder.read(repository / name) for name in names}
        configs = {name: ModelConfig.read(repository / name, config_name) for name in folders}
        served: dict[str, ServedModel] = {}
        for name in sorted(folders, key=lambda name: not configs[name].tensor_model):  # text models first
            config, needs = configs[name], must.get(name, set())
            candidates = [one for one in folders[name].versions if one in needs or one not in out.get(name, ())]
            versions = _versions(name, config, candidates, needs)
            served[name] = _served(repository / name, versions, config)
            if config.tensor_model:
                _check_called(name, config.tensor_model, versions, folders)
                must.setdefault(config.tensor_model, set()).update(versions)
                out.setdefault(config.tensor_model, set()).update(out.get(name, ()))
        return cls(served)

    def folders(self) -> list[Path]:
        """The version folders."""
        return [model.folder / str(version) for model in self.models.values() for version in model.versions]

    def called(self) -> dict[str, set[int]]:
        """Tensor model -> the versions that served text models call."""
        called: dict[str, set[int]] = {}
        for model in self.models.values():
            if model.config.tensor_model:
                called.setdefault(model.config.tensor_model, set()).update(model.versions)
        return called

    def in_order(self) -> list[ServedModel]:
        """Every model after those that it calls."""
        return sorted(self.models.values(), key=lambda model: bool(model.config.tensor_model))


def _versions(name: str, config: ModelConfig, candidates: Sequence[int], needed: set[int]) -> tuple[int, ...]:
    if needed and config.latest:
        others = [version for version in candidates if version not in needed]
        spare = max(0, config.latest - len(needed))
        versions = tuple(sorted({*needed, *others[len(others) - spare :]}))
    else:
        versions = config.served(candidates)
    if not versions:
        raise RepositoryError(
            f"model {name} has nothing to serve: its folder has "
            f"{_listed(candidates, 'versions')} that may be served, and the version policy selects none of them"
        )
    lost = needed - set(config.served(versions))
    if lost:
        raise RepositoryError(
            f"the version policy of model {name} selects {_listed(config.served(versions), 'version')} of "
            f"{_listed(versions, 'version')}, but {_listed(sorted(lost), 'version')} is called by a text model"
        )
    return versions


def _check_called(name: str, tensor_model: str, versions: Sequence[int], folders: Mapping[str, ModelFolder]) -> None:
    there = folders[tensor_model].versions if tensor_model in folders else ()
    missing = [version for version in versions if version not in there]
    if missing:
        raise RepositoryError(
            f"version {missing[0]} of {name} calls version {missing[0]} of {tensor_model}, which is not there "
            f"(it has {_listed(there, 'versions')}); export the model again, or remove that version of {name}"
        )


def _listed(versions: Sequence[int], noun: str) -> str:
    return f"{noun} {', '.join(map(str, versions))}" if versions else f"no {noun}"


def _served(folder: Path, versions: tuple[int, ...], config: ModelConfig) -> ServedModel:
    versioned = [folder / str(version) for version in versions]
    try:
        return ServedModel(
            folder,
            versions,
            config,
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in _configs(folder)},
            tuple(path.read_bytes() for path in (one / MANIFEST_FILE for one in versioned) if path.is_file()),
            {version: _labels(one / LABELS_FILE) for version, one in zip(versions, versioned, strict=True)},
        )
    except OSError as exc:
        raise RepositoryError(f"what lies in {folder} cannot be read: {exc}; fix its permissions") from exc


def _configs(folder: Path) -> list[Path]:
    """The config files of a model's folder."""
    return [path for path in (folder / CONFIG_FILE, *(folder / CONFIGS_FOLDER).glob("*.pbtxt")) if path.is_file()]


def _labels(path: Path) -> tuple[str, ...] | None:
    try:
        return tuple(str(label) for label in json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as exc:
        raise RepositoryError(f"{path} is no list of labels: {exc}; export the model again") from exc


def write(view: Path, selection: Selection) -> None:
    """Makes ``view`` a folder that shows a selection to Triton."""
    view.mkdir(exist_ok=True)
    for folder in list(view.iterdir()):
        if folder.name not in selection.models:
            hide(view, folder.name)
    for model in selection.models.values():
        show(view, model)


def show(view: Path, model: ServedModel) -> None:
    """Has a view show a model as it is selected.

    A file that stays the same is not touched: Triton loads all versions again when a config has a new time.

    Raises:
        RepositoryError: the model's folder is gone, or the view cannot be written.
    """
    try:
        _show(view / model.name, model)
    except OSError as exc:
        raise RepositoryError(
            f"model {model.name} cannot be shown to Triton: {exc}; restore {model.folder}, and see to it that there is "
            f"room in {view}"
        ) from exc


def _show(folder: Path, model: ServedModel) -> None:
    folder.mkdir(exist_ok=True)
    for shown in _configs(folder):
        if shown.relative_to(folder).as_posix() not in model.files:
            shown.unlink()
    for path, content in model.files.items():
        _write(folder / path, content)
    versions = {str(version) for version in model.versions}
    for entry in model.folder.iterdir():
        if entry.name in versions or not (entry.name.isdigit() or entry.name in (CONFIG_FILE, CONFIGS_FOLDER)):
            _link(entry, folder / entry.name)
    for entry in list(folder.iterdir()):
        if entry.name.isdigit() and entry.name not in versions:
            entry.unlink()


def hide(view: Path, name: str) -> None:
    """Has a view show nothing of a model."""
    shutil.rmtree(view / name, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(content)
    draft.replace(path)  # Triton never reads half of one


def _link(source: Path, target: Path) -> None:
    shown = source.resolve()  # of a version that is a link itself: what was verified, wherever the link leads later
    if target.is_symlink() and target.readlink() == shown:
        return
    target.unlink(missing_ok=True)
    target.symlink_to(shown, target_is_directory=source.is_dir())
