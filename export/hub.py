"""Where a checkpoint lies: a local folder, or a model on the Hugging Face hub; and what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from export.manifest import sha256_file

SMALL_FILES = ("*.json", "*.txt", "*.model", "README.md")
SAFETENSORS = "*.safetensors"
PICKLED = "pytorch_model*.bin"


def resolve(name: str, revision: str | None = None) -> tuple[Path, str | None]:
    """The local folder of checkpoint ``name`` (downloaded when it is a hub id) and its commit on the hub.

    Raises:
        CheckpointError: there is neither such a folder nor such a model on the hub.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"--revision {revision} means a commit on the hub, but {name} is a folder; leave it out"
            )
        return folder, None
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise CheckpointError(f"no checkpoint folder {name}: expected a folder with config.json, weights and tokenizer")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL_FILES, SAFETENSORS]))
        if not list(folder.glob(SAFETENSORS)):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL_FILES, PICKLED]))
    except (OSError, HFValidationError) as exc:  # the hub's errors are OSErrors: not found, gated, offline
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(
            f"no model {name}{at}: there is no such folder, and the hub says {type(exc).__name__}: "
            f"{first_line(exc)}; expected a checkpoint folder or a hub id that can be reached"
        ) from exc
    return folder, folder.name  # the cache keeps snapshots/<commit>


def weights_and_licence(folder: Path) -> tuple[str, str | None]:
    """The hash of the weights in ``folder`` and the licence that its model card states."""
    files = sorted(folder.glob(SAFETENSORS)) or sorted(folder.glob(PICKLED))
    return sha256_of(files), _licence(folder / "README.md")


def sha256_of(files: list[Path]) -> str:
    """The SHA-256 of a file; of several, the SHA-256 of their hashes in the order given."""
    hashes = [sha256_file(path) for path in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _licence(card: Path) -> str | None:
    """The licence in the front matter of a model card, where it states one."""
    import yaml
    from huggingface_hub import metadata_load

    if not card.is_file():
        return None
    try:
        data = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError):  # a card that is not well-formed states no licence
        return None
    stated = data.get("license_name") or data.get("license")
    return ", ".join(map(str, stated)) if isinstance(stated, list) else stated and str(stated)


def first_line(exc: BaseException) -> str:
    """The first line of what ``exc`` says."""
    lines = str(exc).strip().splitlines()
    return lines[0].strip() if lines else type(exc).__name__


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keeps transformers' warnings about random weights to itself: they are errors here, with our own message."""
    logging = transformers.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
