"""What panels have in common: selectors by the dashboard's variables, thresholds, and PromQL that several of them need.

Thresholds are those of the alerts (``deploy/prometheus/alerts.rules.yml``).
"""

from __future__ import annotations

from .grafana import GREEN, RED, YELLOW, Panel, Query

# One version of a model; a model, as the gateway knows it.
OF_VERSION = 'model=~"$model", version=~"$version"'
OF_MODEL = 'model=~"$model"'
# In a legend.
VERSION = "{{model}} {{version}}"

ERROR_BUDGET, SLOW_BUDGET = 0.001, 0.01
WINDOWS = ("5m", "1h", "6h", "3d")
BURN_RATES = [(1.0, YELLOW), (6.0, RED)]
P99_S = [(0.5, RED)]
UTILISATION = [(0.7, GREEN), (0.9, RED)]


def rate(metric: str, by: str, selector: str = OF_VERSION) -> str:
    """A counter per second, summed."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def mean(total: str, count: str, factor: str = "") -> str:
    """How much of ``total`` there was for each ``count``, by version."""
    quotient = f"{rate(total, 'model, version')} / {rate(count, 'model, version')}"
    return f"{quotient} * {factor}" if factor else quotient


def quantiles(metric: str, by: str, selector: str, legend: str) -> list[Query]:
    """The median, the 95th and the 99th percentile of a histogram."""
    buckets = rate(f"{metric}_bucket", f"{by}, le", selector)
    return [Query(f"histogram_quantile({share / 100}, {buckets})", f"p{share} {legend}") for share in (50, 95, 99)]


def burn_rates(ratio: str, budget: float) -> list[Query]:
    """How fast an objective's budget is being spent; 1 spends it in 30 days."""
    selector = f"{{{OF_MODEL}}}"
    return [
        Query(f"{ratio}_{window}{selector} / {budget}", f"{window} {{{{model}}}} {{{{version}}}}, {{{{source}}}}")
        for window in WINDOWS
    ]


def stat(query: Query, title: str, unit: str, description: str, *thresholds: tuple[float, str]) -> Panel:
    """A number, large."""
    return Panel(title, [query], unit, description, "stat", thresholds, width=6, height=5)
