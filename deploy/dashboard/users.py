"""The first rows: how it stands at this moment, and what users see at the gateway."""

from __future__ import annotations

from .grafana import RED, YELLOW, Panel, Query, Row
from .queries import (
    BURN_RATES,
    ERROR_BUDGET,
    OF_MODEL,
    OF_VERSION,
    P99_S,
    SLOW_BUDGET,
    VERSION,
    burn_rates,
    quantiles,
    rate,
    stat,
)

NOW = Row(
    "Now",
    (
        stat(
            Query(f"model:request_errors:ratio_1h{{{OF_MODEL}}}", f"{VERSION} {{{{source}}}}"),
            "Requests that fail, 1 h",
            "percentunit",
            "Of valid requests. Allowed: 0.1 %; a page: 1.44 %.",
            (ERROR_BUDGET, YELLOW),
            (14.4 * ERROR_BUDGET, RED),
        ),
        stat(
            Query(f"model:request_duration_seconds:p99_5m{{{OF_MODEL}}}", f"{VERSION} {{{{source}}}}"),
            "P99",
            "s",
            "Over 5 minutes; allowed: 500 ms.",
            *P99_S,
        ),
        stat(
            Query(f'model:waiting:sum{{source="bert_text", {OF_VERSION}}}', VERSION),
            "Texts that wait",
            "short",
            "For an execution, at this moment.",
        ),
        stat(Query("sum by (job) (up)", "{{job}}"), "Targets that answer", "short", "Scraped by Prometheus."),
        Panel(
            "Alerts",
            [Query('ALERTS{alertstate="firing"}')],
            kind="table",
            width=24,
            height=5,
            description="What each means and what to do: docs/runbook.md.",
        ),
    ),
)

USERS = Row(
    "What users see (gateway)",
    (
        Panel(
            "Requests, by code",
            [Query(rate("gateway_requests_total", "protocol, code", 'model=~"$model|none"'), "{{protocol}} {{code}}")],
            "reqps",
            "All that reached the public port, refusals included.",
            stacked=True,
        ),
        Panel(
            "Refused by the gateway",
            [
                Query(
                    rate(
                        "gateway_requests_total",
                        "code",
                        'code=~"401|403|413|429|UNAUTHENTICATED|PERMISSION_DENIED|RESOURCE_EXHAUSTED"',
                    ),
                    "{{code}}",
                )
            ],
            "reqps",
            "Keys (401), paths and models (403), sizes (413), rate (429), and their gRPC forms. In no objective.",
            stacked=True,
        ),
        Panel(
            "Latency",
            quantiles("gateway_request_duration_seconds", "protocol", OF_MODEL, "{{protocol}}"),
            "s",
            "From the first byte of the request to the last of the answer.",
            thresholds=P99_S,
        ),
        Panel(
            "Latency, spread",
            [
                Query(
                    f"sum by (le) (increase(gateway_request_duration_seconds_bucket{{{OF_MODEL}}}[$__rate_interval]))",
                    "{{le}}",
                )
            ],
            kind="heatmap",
            description="How many requests took how long.",
        ),
        Panel(
            "Errors: budget burnt",
            burn_rates("model:request_errors:ratio", ERROR_BUDGET),
            description="1 spends 0.1 % in 30 days. Pages: 14.4 over 1 h, 6 over 6 h; ticket: 1 over 3 days.",
            thresholds=BURN_RATES,
        ),
        Panel(
            "Latency: budget burnt",
            burn_rates("model:slow_requests:ratio", SLOW_BUDGET),
            description="Requests over 500 ms; 1 spends the budget of 1 % in 30 days.",
            thresholds=BURN_RATES,
        ),
    ),
)
