"""Serves other versions while requests come in: none fails, and none is answered by a mixture.

    check      hashes, labels, inputs and outputs, that the tensor model of each version is there
    wait       until versions that an earlier change took out of service have answered their last request
    tensor     the next version is loaded beside the one that the text model still calls
    text       the next version is loaded; Triton hands it every request from then on, and lets the last one
               finish what it has
    ask        one text; when it is not answered, everything goes back

What is refused at any step leaves what was served before; the view (`server.selection`) too, so that a restart does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server import manifest, selection
from server.control.model_control import ModelControl
from server.errors import ChangeError, ServerError
from server.launcher import TritonServer
from server.readiness import CanaryFailed, NotReady
from server.selection import Selection, ServedModel

POLL_S = 0.05
REFUSED = "what was served before goes on; export it under another --name, or restart the server to take it"


@dataclass(frozen=True)
class Step:
    """One model from one state to another; None: not served."""

    name: str
    before: ServedModel | None
    after: ServedModel | None

    def __str__(self) -> str:
        before, after = _versions(self.before), _versions(self.after)
        return f"{self.name}: {before} anew" if before == after else f"{self.name}: {before} -> {after}"


def check(before: Selection, after: Selection) -> None:
    """Whether one selection can follow another without its callers noticing more than better answers.

    Raises:
        ChangeError: labels, inputs, outputs or the backend differ.
    """
    for name, new in after.models.items():
        old = before.models.get(name)
        if old is None or not _differ(old, new):
            continue
        if old.config.signature != new.config.signature:
            raise ChangeError(
                f"version {new.versions[-1]} of {name} is refused: it would change from [{old.config.signature}] "
                f"(version {old.versions[-1]}) to [{new.config.signature}]; {REFUSED}"
            )
        known = old.labels[old.versions[-1]]
        for version, labels in new.labels.items():
            if labels != known:
                raise ChangeError(
                    f"version {version} of {name} is refused: its labels are {_listed(labels)}, those of version "
                    f"{old.versions[-1]} are {_listed(known)}; {REFUSED}"
                )


class Changer:
    """Takes one running server from selection to selection.

    Args:
        server: a server with model control.
        interrupted: asked while Triton works; True gives up.
        timeout_s: for each model.
        verify: whether version folders are held to their manifests first.
    """

    def __init__(
        self, server: TritonServer, interrupted: Callable[[], bool], *, timeout_s: float, verify: bool
    ) -> None:
        self._server = server
        self._interrupted = interrupted
        self._timeout_s = timeout_s
        self._verify = verify

    def change(self, after: Selection) -> list[str]:
        """Serves ``after``; returns what was changed, in words.

        Raises:
            ChangeError: it is refused; what was served before goes on.
            IntegrityError: likewise, because of a file.
        """
        before = self._server.selection
        check(before, after)
        steps = _steps(before, after)
        if not steps:
            return ["nothing to change: what the repository has is served already"]
        if self._verify:
            manifest.verify(after.folders())
        started = time.monotonic()
        self._wait_for_the_last_one()
        self._carry_out(steps)
        self._server.selection = after
        return [f"{', '.join(map(str, steps))} in {time.monotonic() - started:.1f} s"]

    def _wait_for_the_last_one(self) -> None:
        """Lets versions end that an earlier change took out of service: what they call is not taken from them."""
        deadline = time.monotonic() + self._timeout_s
        while unsettled := self._unsettled():
            if self._interrupted() or time.monotonic() > deadline:
                raise ChangeError(f"nothing was changed: {unsettled}")
            time.sleep(POLL_S)

    def _unsettled(self) -> str:
        try:
            moving = next((state for state in self._server.probe.models() if not state.settled), None)
        except NotReady as exc:
            return str(exc)
        return f"version {moving.version} of {moving.name} is still {moving.state}" if moving else ""

    def _carry_out(self, steps: Sequence[Step]) -> None:
        done: list[Step] = []
        control = self._server.model_control(self._interrupted)
        try:
            for step in steps:
                done.append(step)
                self._show(control, step.name, step.after)
            self._ask(steps)
        except Exception as exc:  # whatever it is: half of a change is not left
            left = [self._undo(control, step) for step in reversed(done)]
            what = exc.message if isinstance(exc, ServerError) else f"{type(exc).__name__}: {exc}"
            raise ChangeError("; ".join([what, *filter(None, left), "what was served before goes on"])) from exc

    def _show(self, control: ModelControl, name: str, model: ServedModel | None) -> None:
        if model is None:
            control.unload(name, self._timeout_s)
            selection.hide(self._server.view, name)
        else:
            selection.show(self._server.view, model)
            control.load(name, self._timeout_s)

    def _undo(self, control: ModelControl, step: Step) -> str:
        """Shows a model as it was; returns what went wrong with that."""
        try:
            self._show(control, step.name, step.before)
        except ServerError as exc:
            return f"{step.name} could not be put back: {exc.message}"
        return ""

    def _ask(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.after is not None and step.after.config.is_text:
                try:
                    self._server.probe.canary_under_load(step.name, self._interrupted)
                except CanaryFailed as exc:
                    raise ChangeError(f"{step.after.name} was loaded, and refused: {exc}") from exc


def _steps(before: Selection, after: Selection) -> list[Step]:
    """What differs: tensor models first, what is no longer served last."""
    steps = [Step(model.name, before.models.get(model.name), model) for model in after.in_order()]
    gone = [Step(model.name, model, None) for model in reversed(before.in_order()) if model.name not in after.models]
    return [step for step in steps if step.before is None or _differ(step.before, step.after)] + gone


def _differ(old: ServedModel, new: ServedModel | None) -> bool:
    return new is None or (old.versions, old.files, old.manifests) != (new.versions, new.files, new.manifests)


def _versions(model: ServedModel | None) -> str:
    return ", ".join(map(str, model.versions)) if model else "not served"


def _listed(labels: Sequence[str] | None) -> str:
    return "none" if labels is None else ", ".join(labels)
