"""What stands between a load test and its target, in words that say what to do about it.

From the client's errors to `TargetError`. Owns asking the server what it has instead of a model that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_triton_client.errors import (
    AccessDeniedError,
    BertTritonError,
    DeadlineExceededError,
    InvalidConfigError,
    ServerUnreachableError,
    UnexpectedAnswerError,
    WrongProtocolError,
)
from loadtest.errors import TargetError

if TYPE_CHECKING:
    from bert_triton_client.answers import ModelStatus
    from bert_triton_client.client import Client

_READY = "READY"
_START = "start one (python -m server), or give --url"

# The first class that fits decides; {url} and {error} are filled in.
_WORDS: tuple[tuple[type[BertTritonError], str], ...] = (
    (WrongProtocolError, "{error}"),
    (ServerUnreachableError, "no server at {url}: {error}; " + _START),
    (DeadlineExceededError, "the server at {url} does not answer: {error}; look at its log, " + _START),
    (
        AccessDeniedError,
        "the server at {url} restricts what must be known of the model: {error}; give its key with --header",
    ),
    (UnexpectedAnswerError, "what answers at {url} is no Triton: {error}; " + _START),
)


def explained(url: str, error: BertTritonError) -> TargetError:
    """The same fault, with what to do about it."""
    if isinstance(error, InvalidConfigError):  # a certificate that is not trusted
        reason = str(error).partition(": give its authority")[0]
        return TargetError(f"{reason}: give its authority with --ca-certificates, and the host by the name in it")
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return TargetError(words.format(url=url, error=error))
    return TargetError(f"the server at {url}: {error}")


def absent(client: Client, url: str, model: str, version: str, error: BertTritonError) -> TargetError:
    """Why a model cannot be asked: not there, not in this version, not loaded, not ready."""
    try:
        index = client.models()
    except AccessDeniedError:
        return TargetError(f"the server at {url}: {error}; it does not tell which models it has")
    except BertTritonError as exc:
        return explained(url, exc)
    rows = [row for row in index if row.name == model]
    if not rows:
        return TargetError(f"no model {model!r} at {url}; it has {_named(index)}: name one of them with --model")
    ready = [row.version for row in rows if row.state == _READY]
    if ready:
        return TargetError(
            f"model {model!r} at {url} has no version {version} that is ready; it has "
            f"version{'' if len(ready) == 1 else 's'} {', '.join(ready)}"
        )
    return _not_ready(url, model, rows)


def _named(index: list[ModelStatus]) -> str:
    ready = sorted({row.name for row in index if row.state == _READY})
    others = sorted({row.name for row in index} - set(ready))
    words = ", ".join(ready) or "no models that are ready"
    return f"{words} (not ready: {', '.join(others)})" if others else words


def _not_ready(url: str, model: str, rows: list[ModelStatus]) -> TargetError:
    last = rows[-1]
    if not last.state:
        return TargetError(
            f"model {model!r} is in the repository of {url} but not loaded: "
            f"start the server with --load-model={model}, or load it"
        )
    why = f": {last.reason}" if last.reason else ""
    return TargetError(
        f"model {model!r} (version {last.version or 'unknown'}) at {url} is {last.state}, not ready{why}; "
        "look at the server's log"
    )
