"""The command line of ``python -m server``: flag > environment > default, everything after ``--`` passed through."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client.contract import GRPC_PORT, HTTP_PORT, METRICS_PORT
from server import arguments, tracing
from server.backend_directory import BACKENDS
from server.endpoints import MAX_PORT, Endpoints
from server.errors import OptionError
from server.hangs import HANG_TIMEOUT_S
from server.launcher import EXIT_TIMEOUT_S, START_TIMEOUT_S
from server.restrictions import APIS, DEFAULT_APIS, HEADER, PASSED_FLAGS, parse_apis

ENVIRONMENT_PREFIX = "BERT_TRITON_"
RESTART, EXIT = "restart", "exit"


@dataclass(frozen=True)
class Options:
    """What ``python -m server`` was asked to do.

    Attributes:
        model_repository: folder of models.
        endpoints: host and ports; port 0 = a free one.
        model_config_name: which ``configs/<name>.pbtxt``; None = each model's config.pbtxt.
        exit_timeout_s: bound on a drain.
        start_timeout_s: bound on a start.
        on_backend_death: ``restart`` or ``exit``.
        max_restarts: within ten minutes.
        hang_timeout_s: how long something may be asked and do nothing; 0 = for ever.
        skip_unexported: leave out models that have no version.
        verify: hold what is served to its manifests.
        restricted_apis: of Triton, that take the admin key.
        admin_key_file: holds that key; None = a new one each start.
        control: folder of the socket through which versions are changed; None = they cannot be.
        trace_endpoint: where traces go; None = nowhere.
        backend_directory: a prepared one; None = made at each start.
        backends: folder of Python-based backends.
        extra_args: for tritonserver.
    """

    model_repository: Path
    endpoints: Endpoints
    model_config_name: str | None
    exit_timeout_s: int
    start_timeout_s: float
    on_backend_death: str
    max_restarts: int
    hang_timeout_s: float
    skip_unexported: bool
    verify: bool
    restricted_apis: tuple[str, ...]
    admin_key_file: Path | None
    control: Path | None
    trace_endpoint: str | None
    backend_directory: Path | None
    backends: Path
    extra_args: tuple[str, ...]

    @property
    def triton_selects(self) -> bool:
        """Whether Triton reads the repository itself, as the model control passed through to it says."""
        return "model-control-mode" in arguments.parse(self.extra_args)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= MAX_PORT:
        raise ValueError(text)
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _seconds_or_none(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _word(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ValueError(text)
    return text


def _on_death(text: str) -> str:
    if text not in (RESTART, EXIT):
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class _Flag:
    """One flag that also has an environment variable."""

    name: str
    convert: Callable[[str], Any]
    expected: str
    default: Any
    help: str
    metavar: str

    @property
    def shown_default(self) -> str:
        if self.default is None:
            return ""
        value = ",".join(self.default) if isinstance(self.default, tuple) else self.default
        return f" (default: {value})"

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.removeprefix("--").replace("-", "_").upper()

    @property
    def attribute(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")

    def parse(self, text: str, source: str) -> Any:
        try:
            return self.convert(text)
        except ValueError:
            raise OptionError(f"{source} is {text!r}, expected {self.expected}") from None


_A_PORT = f"a port, 0 to {MAX_PORT} (0 = a free one)"
FLAGS = (
    _Flag("--model-repository", Path, "a folder", Path("model_repository"), "folder of models", "FOLDER"),
    _Flag("--host", _word, "an address", "127.0.0.1", "address to listen on; 0.0.0.0 for every network", "ADDRESS"),
    _Flag("--http-port", _port, _A_PORT, HTTP_PORT, "HTTP; 0 = a free one", "PORT"),
    _Flag("--grpc-port", _port, _A_PORT, GRPC_PORT, "gRPC; 0 = a free one", "PORT"),
    _Flag("--metrics-port", _port, _A_PORT, METRICS_PORT, "Prometheus metrics; 0 = a free one", "PORT"),
    _Flag(
        "--model-config-name",
        _word,
        "a name without spaces",
        None,
        "hardware variant: cpu, gpu, or another NAME of configs/NAME.pbtxt (default: each model's config.pbtxt)",
        "NAME",
    ),
    _Flag(
        "--exit-timeout-s",
        _count,
        "whole seconds, 0 or more",
        EXIT_TIMEOUT_S,
        "how long a stop waits for requests in flight and for clients that keep connections open",
        "SECONDS",
    ),
    _Flag(
        "--start-timeout-s", _seconds, "seconds, more than 0", START_TIMEOUT_S, "how long a start may take", "SECONDS"
    ),
    _Flag(
        "--on-backend-death",
        _on_death,
        f"{RESTART} or {EXIT}",
        RESTART,
        "what to do when a process of Triton died or hangs: restart the server, or exit with code 1",
        f"{RESTART}|{EXIT}",
    ),
    _Flag("--max-restarts", _count, "a number, 0 or more", 5, "restarts within 10 minutes before giving up", "COUNT"),
    _Flag(
        "--hang-timeout-s",
        _seconds_or_none,
        "seconds, 0 or more",
        HANG_TIMEOUT_S,
        "how long a text model that is asked, or Triton, may do nothing before it counts as dead; no execution may "
        "take as long; 0 = for ever, as without metrics (-- --allow-metrics=false)",
        "SECONDS",
    ),
    _Flag(
        "--restricted-apis",
        parse_apis,
        f"names separated by commas of {', '.join(APIS)}, or none",
        DEFAULT_APIS,
        f"APIs of Triton that take the admin key, in the header {HEADER}; none = all are open",
        "APIS",
    ),
    _Flag(
        "--admin-key-file", Path, "a file", None, "file with the admin key (default: a new key, told to nobody)", "FILE"
    ),
    _Flag(
        "--control",
        Path,
        "a folder",
        None,
        "lets `python -m server reload | rollback | versions --control FOLDER` change which versions are served; the "
        "folder should outlive a restart (default: versions cannot be changed)",
        "FOLDER",
    ),
    _Flag(
        "--trace-endpoint",
        tracing.parse_endpoint,
        "a URL such as http://collector:4318/v1/traces",
        None,
        "sends traces, as OTLP over HTTP, of requests that have a traceparent",
        "URL",
    ),
    _Flag(
        "--backend-directory",
        Path,
        "a folder",
        None,
        "what `python -m server prepare FOLDER` made, where the temporary folder may hold no programs (default: one is "
        "made at each start)",
        "FOLDER",
    ),
)


def parser() -> argparse.ArgumentParser:
    """The parser; values are converted by `parse`, which also knows the environment."""
    made = argparse.ArgumentParser(
        prog="python -m server",
        description="Starts the Triton that pip installs on a model repository and keeps it running "
        "until SIGTERM or Ctrl-C.",
        epilog="Everything after -- goes to tritonserver: python -m server -- --log-verbose=1. "
        f"Each flag with a value can also be set as {ENVIRONMENT_PREFIX}<FLAG>, for example {FLAGS[2].variable}=9000.",
        allow_abbrev=False,
    )
    for flag in FLAGS:
        made.add_argument(flag.name, help=flag.help + flag.shown_default, metavar=flag.metavar)
    made.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hold every file of the served versions to the hashes of their manifest.json before each start",
    )
    made.add_argument("--skip-unexported", action="store_true", help="leave out models that have no exported version")
    made.add_argument("--backends", type=Path, default=BACKENDS, help=argparse.SUPPRESS)
    return made


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Reads the command line and the environment.

    Raises:
        OptionError: a value that cannot be used.
    """
    own, extra = _split(argv)
    namespace = parser().parse_args(own)
    values = {flag.attribute: _value(flag, getattr(namespace, flag.attribute), environ) for flag in FLAGS}
    passed = arguments.check(extra)
    _check_together(values, passed, verify=namespace.verify)
    ports = {service: values.pop(service) for service in ("http_port", "grpc_port", "metrics_port")}
    return Options(
        endpoints=Endpoints(values.pop("host"), **ports),
        skip_unexported=namespace.skip_unexported,
        verify=namespace.verify,
        backends=namespace.backends,
        extra_args=tuple(extra),
        **values,
    )


def _check_together(values: Mapping[str, Any], passed: Mapping[str, list[str]], *, verify: bool) -> None:
    """What one flag says and another one makes untrue."""
    if "model-control-mode" in passed and verify:
        raise OptionError(
            "--model-control-mode cannot be passed through: what Triton then loads later is not verified; "
            "change versions with --control, or give --no-verify"
        )
    if "model-control-mode" in passed and values["control"] is not None:
        raise OptionError("--model-control-mode cannot be passed through together with --control; use one of them")
    if values["control"] is not None and (
        not arguments.enabled(passed, "allow-grpc") or {"grpc-use-ssl", "grpc-use-ssl-mutual"} & set(passed)
    ):
        raise OptionError("--control needs Triton's gRPC port without TLS; end TLS before it (docs/production.md)")
    for flag in PASSED_FLAGS:
        if flag in passed and values["restricted_apis"]:
            raise OptionError(f"--{flag} cannot be passed through; use --restricted-apis, or set that to none first")
    tracing.check_passed(passed, values["trace_endpoint"])


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:at]), list(argv[at + 1 :])


def _value(flag: _Flag, given: str | None, environ: Mapping[str, str]) -> Any:
    if given is not None:
        return flag.parse(given, flag.name)
    if environ.get(flag.variable):
        return flag.parse(environ[flag.variable], flag.variable)
    return flag.default
