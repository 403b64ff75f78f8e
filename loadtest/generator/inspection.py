"""Asks a server about a model from a child process: where gevent has patched, the client's gRPC must not run.

Owns only that detour; `loadtest.target` does the asking. ``python -m loadtest.generator.inspection`` is the child:
question on standard input, answer on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from loadtest.access import Access
from loadtest.cell import TensorNames
from loadtest.errors import LoadTestError, TargetError, UsageError
from loadtest.target import Target, inspect

ASK_LIMIT_S = 60.0


@dataclass(frozen=True)
class Question:
    """The arguments of `loadtest.target.inspect`."""

    url: str
    model: str
    version: str = ""
    names: TensorNames = field(default_factory=TensorNames)
    access: Access = field(default_factory=Access)


def ask(question: Question) -> Target:
    """What `loadtest.target.inspect` says, from a child process.

    Raises:
        UsageError, TargetError: as it does.
    """
    from loadtest.generator import process_environment

    try:
        child = subprocess.run(
            [sys.executable, "-m", "loadtest.generator.inspection"],
            input=json.dumps(asdict(question)),
            capture_output=True,
            text=True,
            timeout=ASK_LIMIT_S,
            env=process_environment({}),
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"{question.url}: no word about model {question.model!r} within {ASK_LIMIT_S:.0f} s"
        raise TargetError(what) from None
    return _read(child)


def target_from_json(text: str) -> Target:
    """Reads what `target_to_json` wrote."""
    return TypeAdapter(Target).validate_json(text)


def target_to_json(target: Target) -> str:
    """A target as Locust's messages can carry it."""
    return json.dumps(asdict(target))


def _read(child: subprocess.CompletedProcess[str]) -> Target:
    lines = child.stdout.splitlines()
    if not lines:
        raise TargetError(f"asking about the model failed (status {child.returncode}): {child.stderr.strip()[-500:]}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise (UsageError if answer["error"] == "UsageError" else TargetError)(answer["message"])
    return target_from_json(answer["target"])


def main() -> None:
    """The child: one question, one line of answer."""
    question = TypeAdapter(Question).validate_json(sys.stdin.read())
    try:
        found = inspect(
            question.url, question.model, version=question.version, names=question.names, access=question.access
        )
        answer = {"target": target_to_json(found)}
    except LoadTestError as exc:
        answer = {"error": type(exc).__name__, "message": str(exc)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
