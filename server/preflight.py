"""Looks at the model repository before Triton does, to say in one line what is missing.

Judges folders, not models: whether there is something to serve. Triton judges configs and weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_triton_client.contract import CONFIG_FILE
from server.arguments import enabled
from server.errors import OptionError, RepositoryError

EXPORT = "`make demo` (the demo model) or `python -m export --model ... --name ...` (your own)"


@dataclass(frozen=True)
class ModelFolder:
    """One model's folder in a repository.

    Attributes:
        path: the folder; its name is the model's.
        versions: numbered folders, in ascending order.
        config_names: what ``--model-config-name`` can choose.
    """

    path: Path
    versions: tuple[int, ...]
    config_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.name

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Reads what ``path`` holds.

        Raises:
            RepositoryError: it is not there, or cannot be read.
        """
        try:
            versions = sorted(int(entry.name) for entry in path.iterdir() if _is_version(entry))
            configs = sorted(entry.stem for entry in (path / "configs").glob("*.pbtxt"))
        except OSError as exc:
            raise RepositoryError(f"model folder {path} cannot be read: {exc}; restore it, or its permissions") from exc
        return cls(path, tuple(versions), tuple(configs))


def _is_version(folder: Path) -> bool:
    # Triton's rule: a number that does not begin with 0.
    number = folder.name.isascii() and folder.name.isdigit() and not folder.name.startswith("0")
    return number and folder.is_dir()


def models(repository: Path) -> list[ModelFolder]:
    """The models of a repository, by name: folders with a config or a version.

    Raises:
        RepositoryError: it does not exist, is no folder, or cannot be read.
    """
    if not repository.is_dir():
        what = "is not a folder" if repository.exists() else "does not exist"
        raise RepositoryError(f"model repository {repository} {what}; give --model-repository, or run {EXPORT}")
    try:
        paths = [path for path in sorted(repository.iterdir()) if path.is_dir() and path.name[0] != "."]
    except OSError as exc:
        raise RepositoryError(f"model repository {repository} cannot be read: {exc}; fix its permissions") from exc
    folders = map(ModelFolder.read, paths)
    return [folder for folder in folders if folder.versions or (folder.path / CONFIG_FILE).exists()]


def check(
    repository: Path,
    *,
    model_config_name: str | None = None,
    extra_args: Mapping[str, list[str]] | None = None,
    skip_unexported: bool = False,
) -> list[str]:
    """The names of the models that Triton will be asked to serve.

    Args:
        repository: the model repository.
        model_config_name: must exist for at least one model.
        extra_args: what is passed through to Triton (it decides which models are loaded at start).
        skip_unexported: leave out models without a version, instead of refusing.

    Raises:
        RepositoryError: there is nothing to serve, or a model has a config but no exported version.
        OptionError: no model has a config of that name.
    """
    extra_args = extra_args or {}
    found = models(repository)
    asked = _loaded_at_start(extra_args)
    if asked is not None:
        found = [folder for folder in found if folder.name in asked]
    elif not found and "poll" not in extra_args.get("model-control-mode", []):
        raise RepositoryError(f"model repository {repository} holds no model; run {EXPORT}")
    unexported = [folder.name for folder in found if not folder.versions]
    exported = [folder for folder in found if folder.versions]
    if unexported and not skip_unexported and enabled(extra_args, "exit-on-error"):
        others = ", or serve the others with --skip-unexported" if exported else ""
        raise RepositoryError(f"{_not_exported(unexported)} in {repository}; run {EXPORT}{others}")
    if unexported and not exported:
        raise RepositoryError(f"{_not_exported(unexported)} in {repository}; run {EXPORT}")
    if model_config_name is not None:
        _check_config_name(model_config_name, exported)
    return [folder.name for folder in exported]


def _not_exported(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"model {names[0]} has a config but no exported version"
    return f"models {', '.join(names)} have a config but no exported version"


def _loaded_at_start(extra_args: Mapping[str, list[str]]) -> set[str] | None:
    """The models of ``--load-model`` in explicit mode; None where all are loaded."""
    if "explicit" not in extra_args.get("model-control-mode", []):
        return None
    asked = set(extra_args.get("load-model", []))
    return None if "*" in asked else asked


def _check_config_name(name: str, folders: Sequence[ModelFolder]) -> None:
    known = sorted({config for folder in folders for config in folder.config_names})
    if name not in known and folders:
        # Triton would silently use config.pbtxt.
        have = f"they have {', '.join(known)}" if known else "they have config.pbtxt only"
        raise OptionError(f"--model-config-name {name}: no model has configs/{name}.pbtxt; {have}")
