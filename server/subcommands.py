"""``python -m server reload | rollback | versions | verify | prepare``: told to a server that runs, or to a folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from server import backend_directory, installation, manifest
from server.control.unix_socket import ask
from server.errors import ControlError, RepositoryError, ServerError
from server.preflight import models

VARIABLE = "BERT_TRITON_CONTROL"
TIMEOUT_S = 600.0


def parser() -> argparse.ArgumentParser:
    """The parser of all of them."""
    made = argparse.ArgumentParser(prog="python -m server", allow_abbrev=False)
    commands = made.add_subparsers(dest="command", required=True)
    told = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    told.add_argument(
        "--control", type=Path, metavar="FOLDER", help=f"the --control of the server that is meant (or {VARIABLE})"
    )
    told.add_argument("--timeout-s", type=float, default=TIMEOUT_S, metavar="SECONDS", help="default: %(default)g")
    commands.add_parser(
        "reload",
        parents=[told],
        help="serve what was exported since, without losing a request",
        description="Has a running server serve what its model repository has now: new versions, new models, changed "
        "configs. What cannot be served is refused, and what was served goes on.",
    )
    back = commands.add_parser(
        "rollback",
        parents=[told],
        help="serve an earlier version again, without losing a request",
        description="Has a running server serve an earlier version of a text model and of its tensor model. Newer "
        "versions that exist now are not served again, neither after a reload nor after a restart.",
    )
    back.add_argument("model", help="a text model")
    back.add_argument("--to", type=int, metavar="VERSION", help="default: the one before the one that is served")
    commands.add_parser("versions", parents=[told], help="which versions a running server serves and has")
    checked = commands.add_parser(
        "verify",
        help="hold a model repository to its manifests",
        description="Holds every version folder of a model repository to its manifest; starts nothing.",
    )
    checked.add_argument("--model-repository", type=Path, default=Path("model_repository"), metavar="FOLDER")
    prepared = commands.add_parser(
        "prepare",
        help="make a folder for --backend-directory",
        description="Makes the folder for --backend-directory, so that no start has to: for an image whose temporary "
        "folder may hold no programs. It holds links to this checkout and to the Triton that pip installed.",
    )
    prepared.add_argument("folder", type=Path, metavar="FOLDER", help="a new or an empty one")
    return made


def main(argv: Sequence[str]) -> int:
    """Runs one of them; returns the exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    options = parser().parse_args(argv)
    run = {"verify": _verify, "prepare": _prepare}.get(options.command, _tell)
    try:
        lines = run(options)
    except ServerError as exc:
        sys.stderr.write(f"server: error: {exc.message}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _tell(options: argparse.Namespace) -> list[str]:
    folder = options.control or os.environ.get(VARIABLE)
    if not folder:
        raise ControlError(f"which server? give its --control, or set {VARIABLE}")
    order = {"order": options.command, "model": getattr(options, "model", None), "to": getattr(options, "to", None)}
    return ask(Path(folder), order, options.timeout_s)


def _prepare(options: argparse.Namespace) -> list[str]:
    folder = backend_directory.prepare(installation.find(), options.folder.absolute())
    return [f"wrote {folder}; next: python -m server --backend-directory {folder}"]


def _verify(options: argparse.Namespace) -> list[str]:
    repository = options.model_repository
    folders = [model.path / str(version) for model in models(repository) for version in model.versions]
    if not folders:
        raise RepositoryError(f"model repository {repository} holds no version; run `python -m export`")
    return [str(manifest.verify(folders))]
