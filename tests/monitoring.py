"""What deploy/prometheus and deploy/grafana hold, and the metrics that it may be about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.conftest import REPOSITORY_ROOT

PROMETHEUS = REPOSITORY_ROOT / "deploy" / "prometheus"
GRAFANA = REPOSITORY_ROOT / "deploy" / "grafana"
RULE_FILES = (PROMETHEUS / "recording.rules.yml", PROMETHEUS / "alerts.rules.yml")
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ACCESS_LOG_PROGRAM = REPOSITORY_ROOT / "deploy" / "gateway" / "access_log.mtail"

# Triton's metrics of GPUs, which a machine without one does not show: from its manual, "Metrics", "GPU Metrics".
GPU_METRICS = {
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
}
# Made by Prometheus while it scrapes and evaluates.
PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "ALERTS"}

_OPERATORS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


def rules() -> list[dict[str, Any]]:
    """Every rule, recording ones first."""
    groups = [group for file in RULE_FILES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that are alerts."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    """Names of the series that rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def dashboard() -> dict[str, Any]:
    """The committed dashboard."""
    read: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "bert-triton.json").read_text(encoding="utf-8"))
    return read


def dashboard_queries() -> dict[str, str]:
    """PromQL by panel and query, the dashboard's variables filled in."""
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    }
    for old, new in (("$__rate_interval", "30s"), ("$model|none", ".*"), ("$model", ".*"), ("$version", ".*")):
        queries = {name: query.replace(old, new) for name, query in queries.items()}
    return queries


def variable_queries() -> list[str]:
    """The selectors that the dashboard's variables take their values from."""
    definitions = [variable.get("definition", "") for variable in dashboard()["templating"]["list"]]
    return [found[1] for text in definitions if (found := re.fullmatch(r"label_values\((.*), \w+\)", text))]


def metric_names(expression: str) -> set[str]:
    """The metrics of a PromQL expression."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - _OPERATORS


def gateway_metrics() -> set[str]:
    """What mtail makes of the gateway's log: the names that its program declares."""
    return set(_declared(ACCESS_LOG_PROGRAM.read_text(encoding="utf-8")))


def _declared(program: str) -> Iterator[str]:
    for kind, name in re.findall(r"^(counter|gauge|histogram) (\w+)", program, re.MULTILINE):
        yield from (f"{name}_{part}" for part in ("bucket", "sum", "count")) if kind == "histogram" else (name,)
