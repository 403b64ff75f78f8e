"""``cells.csv``: a row a cell, flat, units in the names.

What a cell that failed or is invalid would say of the server (throughput, latency, utilisation) is left blank, so that
nobody averages it in; ``cells/<id>.json`` and ``report.json`` keep what was observed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from loadtest.cell import CellResult, Estimate, ModelCounters
from loadtest.report.figures import counts
from loadtest.report.server_time import parts_ms

Field = str | int | float | None
Fields = dict[str, Field]
PERCENTILES = ("p50", "p90", "p95", "p99")
PARTS = ("queue_ms", "compute_input_ms", "compute_infer_ms", "compute_output_ms")
# A spreadsheet takes text that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cells_csv(cells: Iterable[CellResult]) -> str:
    """The whole file, head included."""
    rows = [_row(cell) for cell in cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else list(_COLUMNS_WITHOUT_CELLS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


_COLUMNS_WITHOUT_CELLS = ("cell", "series", "verdict")


def _safe(value: Field) -> Field:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _row(cell: CellResult) -> Fields:
    return {**_what(cell), **_setting(cell), **_load(cell), **_client(cell), **_generator(cell), **_server(cell)}


def _what(cell: CellResult) -> Fields:
    return {
        "cell": cell.spec.id,
        "series": cell.spec.series,
        "verdict": cell.verdict,
        "reasons": "; ".join(cell.reasons),
        "warnings": "; ".join(cell.warnings),
        "started_at_utc": cell.started_at,
    }


def _setting(cell: CellResult) -> Fields:
    setting = cell.setting
    return {
        "hardware": setting.hardware,
        "triton_version": setting.triton_version,
        "model": cell.spec.model,
        "model_version": setting.served_version,
        "kind": setting.kind,
        "precision": setting.precision,
        "instances": setting.instances,
        "batching": setting.batching,
        "lengths": setting.lengths,
        "lengths_sent": cell.generator.lengths,
    }


def _load(cell: CellResult) -> Fields:
    spec = cell.spec
    return {
        "protocol": spec.protocol,
        "url": spec.url,
        "batch_size": spec.batch_size,
        "workload": spec.workload.kind,
        "users": spec.workload.users,
        "rate_per_s": spec.workload.rate_per_s,
        "repeat_share": spec.texts.repeat_share,
        "timeout_s": spec.timeout_s,
        "warm_up_s": spec.warm_up_s,
        "duration_s": cell.client.duration_s,
    }


def _client(cell: CellResult) -> Fields:
    client = cell.client
    fields: Fields = {
        "answers": client.requests,
        "failures": client.failed,
        "error_rate": client.error_rate,
        "failures_by_kind": "; ".join(f"{kind}: {count}" for kind, count in sorted(client.failures.items())),
    }
    values: list[tuple[str, Estimate | None]] = [
        ("requests_per_s", client.requests_per_s),
        ("sentences_per_s", client.sentences_per_s),
        *((f"{name}_ms", client.latency_ms.get(name)) for name in PERCENTILES),
    ]
    for name, value in values:
        shown = value if counts(cell) else None
        fields[name] = shown.value if shown else None
        fields[f"{name}_low"] = shown.low if shown else None
        fields[f"{name}_high"] = shown.high if shown else None
    fields["mean_ms"] = client.mean_latency_ms if counts(cell) else None
    fields["max_ms"] = client.max_latency_ms if counts(cell) else None
    return fields


def _generator(cell: CellResult) -> Fields:
    side = cell.generator
    return {
        "generator_processes": side.processes,
        "generator_max_cpu_share": side.max_cpu_share,
        "generator_cpu_cores": side.cpu_cores,
        "generator_loop_lag_p99_ms": side.loop_lag_p99_ms,
        "generator_send_lag_p99_ms": side.send_lag_p99_ms,
        "generator_missed_sends": side.missed_sends,
        "unfinished": side.unfinished,
        "answers_reasked": side.reasked,
        "answers_changed": side.changed,
        "mean_request_bytes": side.mean_request_bytes,
    }


def _server(cell: CellResult) -> Fields:
    side = cell.server
    known = side is not None and counts(cell)
    models = side.models if side is not None else ()
    return {
        "server_device": side.device if side else None,
        "server_utilisation": side.utilisation if side and known else None,
        "server_memory_bytes": side.memory_bytes if side and known else None,
        "cache_hits": side.cache_hits if side else None,
        "tokens": side.tokens if side else None,
        "padding_tokens": side.padding_tokens if side else None,
        **_counters("model", models[0] if models else None, known),
        **_counters("tensor_model", models[1] if len(models) > 1 else None, known),
    }


def _counters(prefix: str, model: ModelCounters | None, known: bool) -> Fields:
    times = parts_ms(model) if model is not None and known else (None,) * len(PARTS)
    return {
        f"{prefix}_name": model.model if model else None,
        f"{prefix}_requests": model.requests if model else None,
        f"{prefix}_failures": model.failures if model else None,
        f"{prefix}_mean_executed_batch_size": model.mean_batch_size if model and known else None,
        **{f"{prefix}_{name}": value for name, value in zip(PARTS, times, strict=True)},
    }
