"""What one export is about to publish: version folders being filled, their configs, and the commit.

Made by `ModelRepository.staging`, which owns the lock, the place and the cleaning up. What is checked here: that a
folder holds what its manifest says, that configs and versions of one export belong together, and that a new
version keeps to the labels, inputs and outputs that callers of the model know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tritonclient.grpc import model_config_pb2

from bert_triton_client.contract import CONFIG_FILE, PARAM_TENSOR_MODEL, TENSOR_BACKENDS, TEXT_BACKEND
from export import disk, journal
from export.errors import LabelError, RepositoryError
from export.journal import Rename
from export.manifest import read_labels, verify
from export.triton_messages import check_name, parse, serve_latest_only, signature

if TYPE_CHECKING:
    from export.repository import ModelRepository

CONFIGS_FOLDER = "configs"


@dataclass
class Staging:
    """What one export is about to publish; made by `ModelRepository.staging`.

    Attributes:
        repository: where it will be published.
        place: where it lies until then.
        allow_labels: whether new versions may have other labels, inputs or outputs than the last ones.
        finished: what a killed export had committed to and this one published for it, as paths in the repository.
    """

    repository: ModelRepository
    place: Path
    allow_labels: bool = False
    finished: list[str] = field(default_factory=list)
    _published: dict[str, _Publication] = field(default_factory=dict)

    def folder(self, model: str, version: int) -> Path:
        """A new, empty folder for the files of this version.

        Raises:
            RepositoryError: the version is not newer than those the model has.
        """
        check_name(model)
        newest = max([0, *self.repository.versions(model)])
        if version <= newest:
            raise RepositoryError(f"{model} has version {newest}, so the next cannot be {version}: it must be higher")
        folder = self.place / model / str(version)
        with disk.explained(folder):
            folder.mkdir(parents=True)
        return folder

    def publish(self, model: str, version: int, configs: Mapping[str, str]) -> None:
        """Has the filled `folder` of this version, with the config files of its model, published by `commit`.

        Raises:
            RepositoryError: the folder does not hold what its manifest says, or a config is not this model's.
            LabelError: labels, inputs or outputs differ from those of the last version, and that is not allowed.
        """
        folder = self.place / model / str(version)
        manifest = verify(folder)
        if (manifest.model, manifest.version) != (model, version):
            found = f"version {manifest.version} of {manifest.model}"
            raise RepositoryError(f"{folder} holds the manifest of {found}; expected version {version} of {model}")
        parsed = {path: parse(text, f"{model}/{path}") for path, text in configs.items()}
        for path, config in parsed.items():
            if config.name != model or (path != CONFIG_FILE and Path(path).parent.as_posix() != CONFIGS_FOLDER):
                raise RepositoryError(f"{model}/{path} is the config of {config.name!r}; expected one of {model}")
        if CONFIG_FILE not in parsed:
            raise RepositoryError(f"{model} has no {CONFIG_FILE} among {', '.join(parsed) or 'no configs'}")
        config = parsed[CONFIG_FILE]
        self._check_backend(config)
        if config.backend == TEXT_BACKEND and not self.allow_labels:
            self.repository.check_labels(model, read_labels(folder))
        if self._changes_signature(config) or self._changes_engine(config):
            configs = {path: serve_latest_only(text) for path, text in configs.items()}
        called = {other.parameters[PARAM_TENSOR_MODEL].string_value for other in parsed.values()} - {""}
        self._published[model] = _Publication(version, dict(configs), config.backend == TEXT_BACKEND, called)

    def commit(self) -> None:
        """Publishes everything that was given to `publish`: all of it, or nothing.

        Raises:
            RepositoryError: a text model calls what is not published with it, or the disk refused.
        """
        for model, publication in self._published.items():
            for called in publication.calls:
                other = self._published.get(called)
                if other is None or other.version != publication.version:
                    raise RepositoryError(
                        f"version {publication.version} of {model} calls {called}, whose version of that number is "
                        f"not published with it; published are {', '.join(self._published)}"
                    )
        # Tensor models first, in the order in which they came.
        order = sorted(self._published, key=lambda model: self._published[model].is_text)
        with disk.explained(self.repository.path):
            renames = [rename for model in order for rename in self._stage_configs(model, self._published[model])]
            journal.commit(self.place, self.repository.path, renames)
        self._published.clear()

    def _stage_configs(self, model: str, publication: _Publication) -> list[Rename]:
        """Writes the configs that change to staging; returns the renames that publish the model, in their order."""
        live = self.repository.path / model
        version = Rename(f"{model}/{publication.version}", f"{model}/{publication.version}")
        configs = []
        for path, text in sorted(publication.configs.items(), key=lambda item: item[0] == CONFIG_FILE):
            if live.exists() and _read_or_none(live / path) == text:
                continue  # a new time alone would make a polling Triton reload every version
            staged = self.place / model / path
            staged.parent.mkdir(exist_ok=True)
            staged.write_text(text, encoding="utf-8")
            configs.append(Rename(f"{model}/{path}", f"{model}/{path}"))
        if not live.exists():
            return [Rename(model, model)]
        # With nothing to serve yet (a fresh clone), the version comes last: it must not meet another model's config.
        return [version, *configs] if self.repository.versions(model) else [*configs, version]

    def _check_backend(self, config: model_config_pb2.ModelConfig) -> None:
        path = self.repository.path / config.name / CONFIG_FILE
        text = _read_or_none(path)
        live = config if text is None else parse(text, str(path))
        if live.backend != config.backend and not {live.backend, config.backend} <= set(TENSOR_BACKENDS):
            raise RepositoryError(
                f"{config.name} is a model of backend {live.backend} already, expected {config.backend}: "
                "export under another --name"
            )

    def _changes_engine(self, config: model_config_pb2.ModelConfig) -> bool:
        """Whether the last versions were laid out for another engine, which the new config no longer names."""
        text = _read_or_none(self.repository.path / config.name / CONFIG_FILE)
        has_versions = bool(self.repository.versions(config.name))
        return has_versions and text is not None and parse(text).backend != config.backend

    def _changes_signature(self, config: model_config_pb2.ModelConfig) -> bool:
        path = self.repository.path / config.name / CONFIG_FILE
        text = _read_or_none(path)
        versions = self.repository.versions(config.name)
        if text is None or not versions:
            return False
        before, after = signature(parse(text, str(path))), signature(config)
        if before != after and not self.allow_labels:
            raise LabelError(
                f"{config.name} would change from {before} (version {versions[-1]}) to {after}, and one config.pbtxt "
                "describes all versions of a model; export under another --name, or allow it with --allow labels"
            )
        return before != after


@dataclass(frozen=True)
class _Publication:
    version: int
    configs: dict[str, str]
    is_text: bool
    calls: set[str]


def _read_or_none(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
