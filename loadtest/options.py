"""What a command line says as a whole: `Session`. Flag > environment > default; one flag means one thing everywhere.

The flags themselves are in `loadtest.flags`, whose functions for commands are here too. Nothing is asked of a server.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.access import Access
from loadtest.cell import CellSpec, TensorNames, TextSource, Workload
from loadtest.errors import UsageError
from loadtest.flags import (
    DEFAULT_URL,
    MAX_DURATION_S,
    URL_VARIABLE,
    add_batch_size_argument,
    add_common_arguments,
    add_output_arguments,
    add_sizes_argument,
    add_workload_arguments,
    count,
    not_negative,
    positive,
    share,
    share_below_1,
)

if TYPE_CHECKING:
    from loadtest.generator import Distributed

__all__ = [
    "Session",
    "add_batch_size_argument",
    "add_common_arguments",
    "add_output_arguments",
    "add_sizes_argument",
    "add_workload_arguments",
    "count",
    "distinct",
    "not_negative",
    "positive",
    "redacted",
    "session",
    "share",
    "share_below_1",
    "workload",
]

RESULTS = Path("results")


@dataclass(frozen=True)
class Session:
    """What one call of ``python -m loadtest`` was asked to do, as far as all commands share it.

    Attributes:
        url: of the server.
        access: headers and certificates; never stored.
        models: one name, or the several of ``--models``.
        version: model version; "" leaves the choice to the server.
        names: tensor names of foreign models.
        texts: what is asked.
        warm_up_s: see `CellSpec`, as the next five.
        duration_s: the least seconds of a measurement.
        max_duration_s: the most.
        min_requests: what it is prolonged for.
        timeout_s: of one request.
        max_error_rate: above it a cell has failed.
        processes: load-generating processes.
        distributed: remote generators that are waited for; None for local ones.
        metrics_url: Triton's metrics; None derives it from ``url``.
        server_pid: tritonserver's process on this machine; None finds it.
        hardware: what the user says of the server's machine; None asks this machine.
        output: the run folder.
        note: anything to keep beside the run.
        command: the words of the command line, secrets left out.
        as_json: results as JSON on stdout.
        dry_run: print the cells, measure nothing.
    """

    url: str
    access: Access
    models: tuple[str, ...]
    output: Path
    version: str = ""
    names: TensorNames = field(default_factory=TensorNames)
    texts: TextSource = field(default_factory=TextSource)
    warm_up_s: float = 2.0
    duration_s: float = 10.0
    max_duration_s: float = MAX_DURATION_S
    min_requests: int = 400
    timeout_s: float = 30.0
    max_error_rate: float = 0.001
    processes: int = 1
    distributed: Distributed | None = None
    metrics_url: str | None = None
    server_pid: int | None = None
    hardware: str | None = None
    note: str = ""
    command: tuple[str, ...] = ()
    as_json: bool = False
    dry_run: bool = False

    @property
    def model(self) -> str:
        """The model, where there is one."""
        return self.models[0]

    def spec(self, series: str, model: str, *, batch_size: int, workload: Workload) -> CellSpec:
        """A cell with this session's settings; its id says the series, the model and what varies.

        Every process has at least one user: where there are fewer users, there are fewer processes.

        Raises:
            UsageError: settings that do not go together.
        """
        load = f"u{workload.users}" if workload.users is not None else f"r{workload.rate_per_s:.6g}"
        return CellSpec(
            id=f"{series}_{_slug(model)}_b{batch_size}_{load}",
            series=series,
            url=self.url,
            model=model,
            version=self.version,
            batch_size=batch_size,
            workload=workload,
            texts=self.texts,
            names=self.names,
            warm_up_s=self.warm_up_s,
            duration_s=self.duration_s,
            max_duration_s=self.max_duration_s,
            min_requests=self.min_requests,
            timeout_s=self.timeout_s,
            processes=min(self.processes, workload.users or self.processes),
            max_error_rate=self.max_error_rate,
        )


def _slug(text: str) -> str:
    from loadtest.results import slug

    return slug(text)


def session(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Session:
    """What the flags of `add_common_arguments` and the environment say.

    Raises:
        UsageError: values that cannot be, alone or together.
    """
    models = tuple(options.models) if "models" in options else (options.model,)
    distinct("--models", models)
    made = Session(
        url=_url(options.url, environ),
        access=Access(dict(options.header), options.ca_certificates),
        models=models,
        output=_output(options),
        version=options.model_version,
        names=_names(options),
        texts=_texts(options),
        warm_up_s=options.warm_up_s,
        duration_s=options.duration_s,
        max_duration_s=options.max_duration_s or max(MAX_DURATION_S, options.duration_s),
        min_requests=options.min_requests,
        timeout_s=options.timeout_s,
        max_error_rate=options.max_error_rate,
        processes=options.processes,
        distributed=_distributed(options),
        metrics_url=options.metrics_url,
        server_pid=options.server_pid,
        hardware=options.hardware,
        note=options.note,
        command=redacted(getattr(options, "words", ())),
        as_json=options.as_json,
        dry_run=options.dry_run,
    )
    _check_access(made)
    return made


def workload(options: argparse.Namespace) -> Workload:
    """What ``--users`` or ``--rate`` say."""
    if options.rate is not None:
        return Workload(rate_per_s=options.rate)
    return Workload(users=options.users or options.default_users)


def distinct(flag: str, values: Sequence[Any]) -> None:
    """Refuses values that are given twice.

    Raises:
        UsageError: one is.
    """
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise UsageError(f"argument {flag}: {twice[0]} is given twice")


def redacted(words: Sequence[str]) -> tuple[str, ...]:
    """A command line without the values of headers and without passwords in URLs."""
    safe: list[str] = []
    for word in words:
        if word.startswith("--header=") or (safe and safe[-1] == "--header"):
            flag, _, header = word.rpartition("--header=")
            name = header.partition("=")[0]
            safe.append(f"{'--header=' if flag or word.startswith('--header=') else ''}{name}=…")
        else:
            safe.append(re.sub(r"://[^/@\s]*@", "://…@", word))
    return tuple(safe)


def _url(flag: str | None, environ: Mapping[str, str]) -> str:
    from bert_triton_client.config import Endpoint
    from bert_triton_client.errors import InvalidConfigError

    source, text = ("--url", flag) if flag is not None else (URL_VARIABLE, environ.get(URL_VARIABLE) or DEFAULT_URL)
    try:
        return str(Endpoint.parse(text))
    except InvalidConfigError as exc:
        raise UsageError(f"{source}: {exc}") from exc


def _check_access(made: Session) -> None:
    from bert_triton_client import ClientConfig, InvalidConfigError, TLSConfig

    try:
        ClientConfig(made.url, headers=made.access.headers, tls=TLSConfig(made.access.ca_certificates))
    except InvalidConfigError as exc:
        raise UsageError(str(exc).replace("TLS: `ca_certificates`", "--ca-certificates")) from exc


def _output(options: argparse.Namespace) -> Path:
    if options.output is not None:
        return Path(options.output)
    return RESULTS / f"{options.command_name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _names(options: argparse.Namespace) -> TensorNames:
    return TensorNames(
        text=options.text_tensor,
        input_ids=options.input_ids_tensor,
        attention_mask=options.attention_mask_tensor,
        token_type_ids=options.token_type_ids_tensor,
        outputs=tuple(options.output_tensor),
        sequence_length=options.sequence_length,
        vocabulary_size=options.vocabulary_size,
    )


def _texts(options: argparse.Namespace) -> TextSource:
    usual = TextSource()
    return TextSource(
        path=options.texts,
        text_column=options.text_column,
        median_words=options.median_words,
        sigma=options.sigma,
        min_words=usual.min_words,
        max_words=options.max_words,
        repeat_share=options.repeat_share,
    )


def _distributed(options: argparse.Namespace) -> Distributed | None:
    if options.expect_workers is None:
        return None
    from loadtest.generator import Distributed

    return Distributed(options.master_bind_host, options.master_bind_port, options.expect_workers)
