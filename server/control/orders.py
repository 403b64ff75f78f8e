"""What a running server does when it is told to: ``reload``, ``rollback`` and ``versions``."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from server.control.change import Changer
from server.control.withdrawn import read_withdrawn, write_withdrawn
from server.errors import ChangeError, ControlError, ServerError
from server.launcher import TritonServer
from server.preflight import ModelFolder
from server.selection import Selection, ServedModel

Select = Callable[[Mapping[str, set[int]], Mapping[str, set[int]]], Selection]


class Orders:
    """Carries out what comes through the control socket.

    Args:
        server: the running server.
        changer: changes what it serves.
        select: reads the repository, given the versions that are withdrawn and those that are needed, by model.
        folder: where it is remembered which versions are withdrawn.
        say: takes a log line.
    """

    def __init__(
        self, server: TritonServer, changer: Changer, select: Select, *, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._server = server
        self._changer = changer
        self._select = select
        self._folder = folder
        self._say = say
        self._known = {"reload": self._reload, "rollback": self._rollback, "versions": self._versions}

    def handle(self, order: Mapping[str, Any]) -> list[str]:
        """Carries out one order; returns the answer.

        Raises:
            ServerError: it cannot be carried out; nothing is changed then.
        """
        name = str(order.get("order"))
        if name not in self._known:
            raise ControlError(f"unknown order {name!r}, expected one of {', '.join(self._known)}")
        try:
            lines = self._known[name](order)
        except ServerError as exc:
            self._say(f"{name}: {exc.message}")
            raise
        except Exception as exc:  # what nobody thought of ends an order, not the server
            self._say(f"{name}: {traceback.format_exc()}")
            raise ControlError(f"{name} failed: {type(exc).__name__}: {exc}; the server's log says where") from exc
        if name != "versions":
            for line in lines:
                self._say(f"{name}: {line}")
        return lines

    def _reload(self, _: Mapping[str, Any]) -> list[str]:
        withdrawn = read_withdrawn(self._folder)
        return [
            *self._change(withdrawn, {}),
            *(_note(model, versions) for model, versions in withdrawn.items() if versions),
        ]

    def _rollback(self, order: Mapping[str, Any]) -> list[str]:
        model = self._text_model(str(order.get("model")))
        there = ModelFolder.read(self._server.repository / model.name).versions
        version = _target(model, there, order.get("to"))
        withdrawn = read_withdrawn(self._folder)
        before = dict(withdrawn)
        withdrawn[model.name] = {one for one in there if one > version}
        write_withdrawn(self._folder, withdrawn)  # first: what is served must never be more than is remembered
        try:
            lines = self._change(withdrawn, {model.name: version})
        except Exception:
            write_withdrawn(self._folder, before)
            raise
        return [*lines, *([_note(model.name, withdrawn[model.name])] if withdrawn[model.name] else [])]

    def _versions(self, _: Mapping[str, Any]) -> list[str]:
        withdrawn = read_withdrawn(self._folder)
        return [
            "  ".join(
                (
                    name,
                    f"serves {', '.join(map(str, model.versions))}",
                    f"has {', '.join(map(str, ModelFolder.read(model.folder).versions)) or 'none'}",
                    *([f"rolled back from {', '.join(map(str, sorted(out)))}"] if (out := withdrawn.get(name)) else []),
                )
            )
            for name, model in sorted(self._server.selection.models.items())
        ]

    def _change(self, withdrawn: Mapping[str, set[int]], wanted: Mapping[str, int]) -> list[str]:
        # What the served text models call must stay until they have answered their last request.
        selected = self._select(withdrawn, self._server.selection.called())
        for name, version in wanted.items():
            if (found := selected.models[name].versions[-1] if name in selected.models else None) != version:
                raise ChangeError(
                    f"version {version} of {name} cannot be served: the version policy in its config.pbtxt selects "
                    f"{found or 'none'}; what was served before goes on"
                )
        return self._changer.change(selected)

    def _text_model(self, name: str) -> ServedModel:
        models = self._server.selection.models
        texts = sorted(name for name, model in models.items() if model.config.tensor_model)
        if name not in texts:
            raise ChangeError(f"{name!r} is no text model that is served; they are {', '.join(texts) or 'none'}")
        return models[name]


def _note(model: str, withdrawn: set[int]) -> str:
    versions = sorted(withdrawn)
    return (
        f"version {', '.join(map(str, versions))} of {model} was rolled back from and is not served again, "
        f"whatever restarts; to serve it: rollback {model} --to {versions[-1]}"
    )


def _target(model: ServedModel, there: Sequence[int], asked: object) -> int:
    """The version to serve: the one asked for, or the one before the one that is served."""
    served = model.versions[-1]
    listed = ", ".join(map(str, there)) or "none"
    if asked is None:
        older = [version for version in there if version < served]
        if not older:
            raise ChangeError(f"{model.name} serves version {served} and has no older one (it has {listed})")
        return older[-1]
    if not isinstance(asked, int) or asked not in there:
        raise ChangeError(f"{model.name} has no version {asked} (it has {listed})")
    return asked
