"""All that is known of one cell, as named texts in groups: what the page unfolds and a person looks up."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.cell import CellResult, ModelCounters
from loadtest.report.caption import load_of, model_of
from loadtest.report.figures import counts, number, percent, verdict, with_interval
from loadtest.report.server_time import PARTS, parts_ms, total_ms

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """One cell.

    Attributes:
        id: of the cell.
        heading: model, batch size and load.
        verdict: with its first reason.
        tone: ``ok`` or ``bad``.
        reasons: why it is not ok.
        warnings: what to know although it is.
        failures: (kind, count, an example).
        groups: (title, lines).
    """

    id: str
    heading: str
    verdict: str
    tone: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    failures: tuple[tuple[str, str, str], ...]
    groups: tuple[tuple[str, Lines], ...]

    @classmethod
    def of(cls, cell: CellResult) -> Details:
        """What is known of ``cell``."""
        client = cell.client
        failures = tuple(
            (kind, f"{count:,}", client.failure_examples.get(kind, ""))
            for kind, count in sorted(client.failures.items())
        )
        groups = [
            ("Measured on", _setting(cell)),
            ("Load", _load(cell)),
            ("Users saw" if counts(cell) else "Users saw (observed, not a capability)", _client(cell)),
            ("Server", _server(cell)),
            ("Load generator", _generator(cell)),
        ]
        return cls(
            cell.spec.id,
            f"{cell.spec.model}, batch size {cell.spec.batch_size}, {cell.spec.workload}",
            verdict(cell),
            "ok" if cell.verdict == "ok" else "bad",
            cell.reasons,
            cell.warnings,
            failures,
            tuple((title, tuple((name, text) for name, text in lines if text)) for title, lines in groups),
        )


def _setting(cell: CellResult) -> Lines:
    setting = cell.setting
    return (
        ("hardware", setting.hardware),
        ("Triton", setting.triton_version),
        ("model", model_of(cell)),
        ("instances", setting.instances),
        ("batching", setting.batching),
        ("lengths", setting.lengths),
        ("sent", cell.generator.lengths),
    )


def _load(cell: CellResult) -> Lines:
    spec = cell.spec
    return (
        ("workload", load_of(cell)),
        ("batch size", str(spec.batch_size)),
        ("protocol", f"{spec.protocol}, {spec.url}"),
        (
            "window",
            f"{number(cell.client.duration_s)} s from {cell.started_at}, after {number(spec.warm_up_s)} s of warm-up",
        ),
        ("time limit of a request", f"{number(spec.timeout_s)} s"),
        ("error limit", f"{100 * spec.max_error_rate:g} %"),
        ("texts that repeat", f"{percent(spec.texts.repeat_share)} %" if spec.texts.repeat_share else ""),
    )


def _client(cell: CellResult) -> Lines:
    client = cell.client
    return (
        ("answers", f"{client.requests:,}"),
        ("failures", f"{client.failed:,} ({percent(client.error_rate)} %)"),
        ("requests/s", with_interval(client.requests_per_s)),
        ("sentences/s", with_interval(client.sentences_per_s)),
        *((f"{name}, ms", with_interval(value)) for name, value in client.latency_ms.items()),
        ("mean, ms", number(client.mean_latency_ms)),
        ("longest, ms", number(client.max_latency_ms)),
    )


def _server(cell: CellResult) -> Lines:
    side = cell.server
    if side is None:
        return (("counters", "could not be read"),)
    memory = number(side.memory_bytes / 1e6) if side.memory_bytes is not None else ""
    tokens = "" if side.tokens is None else f"{side.tokens:,}"
    padding = f", and {side.padding_tokens:,} of padding" if side.padding_tokens is not None else ""
    return (
        (f"{side.device} utilisation", f"{percent(side.utilisation)} %" if side.utilisation is not None else ""),
        (f"{side.device} memory", f"{memory} MB" if memory else ""),
        ("cache hits", f"{side.cache_hits:,}"),
        ("tokens", tokens + padding if tokens else ""),
        *(line for model in side.models for line in _counters(model)),
    )


def _counters(model: ModelCounters) -> Lines:
    parts = ", ".join(f"{name} {number(part)}" for (name, _), part in zip(PARTS, parts_ms(model), strict=True))
    failures = f", {model.failures:,} failures" if model.failures else ""
    return (
        (
            f"{model.model} version {model.version}",
            f"{model.requests:,} requests{failures}, {model.inferences:,} rows in {model.executions:,} executions "
            f"(mean batch {number(model.mean_batch_size)})",
        ),
        (f"{model.model}, ms a request", f"{number(total_ms(model))}: {parts}"),
    )


def _generator(cell: CellResult) -> Lines:
    side = cell.generator
    send_lag = side.send_lag_p99_ms
    return (
        ("processes", str(side.processes)),
        (
            "CPU",
            f"{percent(side.max_cpu_share, 2)} % of a core (busiest process), {number(side.cpu_cores, 2)} cores in all",
        ),
        ("event loop late by", f"{number(side.loop_lag_p99_ms)} ms (p99)"),
        ("sent late by", f"{number(send_lag)} ms (p99)" if send_lag is not None else ""),
        ("sends missed", f"{side.missed_sends:,}" if send_lag is not None or side.missed_sends else ""),
        ("without an answer at the end", f"{side.unfinished:,}" if side.unfinished else ""),
        ("answers asked again alone", f"{side.reasked:,}, of which {side.changed:,} differed" if side.reasked else ""),
        ("mean request", f"{number(side.mean_request_bytes)} bytes"),
    )
