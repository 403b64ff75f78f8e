"""What can be said of the rules by reading them: names, links, windows, arithmetic, and that each alert is tested."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from backends.bert_text.metrics import BUCKETS, COUNTERS, GAUGES, LABEL_VALUES
from tests import monitoring
from tests.conftest import REPOSITORY_ROOT

RUNBOOK = (REPOSITORY_ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
PROJECT_METRICS = re.compile(r"bert_text_\w+|gateway_\w+|nv_gpu_\w+|nv_energy\w+|(?:model|gpu):[\w:]+")
DAY_H, MONTH_H = 24, 720


def alert_ids() -> list[str]:
    return [rule["alert"] for rule in monitoring.alerts()]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (model, le) (rate(a_bucket{le="0.5", x=~"b|c"}[5m])) / 0.01', {"a_bucket"}),
        ("a:b:rate5m > 14.4 * 0.001 and on (model) c unless bool_d offset 15m", {"a:b:rate5m", "c", "bool_d"}),
        ('absent(up{job="triton"}) or e == bool 0 * 1e-6', {"up", "e"}),
        ('histogram_quantile(0.99, f{g="h{i}"})', {"f"}),
    ],
)
def test_names_are_read_out_of_an_expression(expression: str, names: set[str]) -> None:
    assert monitoring.metric_names(expression) == names


def test_every_name_of_ours_is_one_that_something_exposes() -> None:
    expressions = [rule["expr"] for rule in monitoring.rules()]
    expressions += [*monitoring.dashboard_queries().values(), *monitoring.variable_queries()]
    used = set().union(*map(monitoring.metric_names, expressions))
    known = {*COUNTERS, *GAUGES, *monitoring.gateway_metrics(), *monitoring.GPU_METRICS, *monitoring.recorded()}
    assert {name for name in used if PROJECT_METRICS.fullmatch(name)} <= known


def test_every_recorded_series_is_used() -> None:
    expressions = [rule["expr"] for rule in monitoring.rules()] + list(monitoring.dashboard_queries().values())
    assert monitoring.recorded() <= set().union(*map(monitoring.metric_names, expressions))


def test_label_values_that_rules_ask_for_exist() -> None:
    values = {label: set(known) for label, known in LABEL_VALUES.values()}
    expressions = [rule["expr"] for rule in monitoring.rules()] + list(monitoring.dashboard_queries().values())
    for expression in expressions:
        for selector in re.findall(r"bert_text_\w+\{([^}]*)\}", expression):
            for label, asked in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', selector):
                if label in values:
                    assert set(asked.split("|")) <= values[label], expression


def test_the_gateway_and_bert_text_have_the_same_buckets_and_the_objective_is_one() -> None:
    program = monitoring.ACCESS_LOG_PROGRAM.read_text(encoding="utf-8")
    (bounds,) = re.findall(r"^histogram gateway_request_duration_seconds .* buckets (.*)$", program, re.MULTILINE)
    assert [float(bound) for bound in bounds.split(",")] == [float(bound) for bound in BUCKETS[:-1]]
    assert "0.5" in BUCKETS


def test_a_window_in_a_name_is_the_window_in_its_expression() -> None:
    for rule in monitoring.rules():
        if named := re.search(r"(\d+[mhd])$", rule.get("record", "")):
            windows = set(re.findall(r"\[(\d+[smhd])\]", rule["expr"]))
            assert windows <= {named[1]}, rule["record"]


@pytest.mark.parametrize("rule", monitoring.alerts(), ids=alert_ids())
def test_an_alert_has_a_severity_a_summary_and_a_place_in_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/runbook.md"
    sections = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-"): text
        for title, text in re.findall(r"^### (.*)\n((?:(?!^#).*\n)*)", RUNBOOK, re.MULTILINE)
    }
    assert anchor in sections
    assert f"`{rule['alert']}`" in sections[anchor]
    (line,) = [line for line in sections[anchor].splitlines() if f"`{rule['alert']}`" in line]
    assert rule["labels"]["severity"] in line


def test_the_runbook_names_no_alert_that_does_not_exist() -> None:
    named = re.findall(r"^(`\w+`.*)$", RUNBOOK, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", "\n".join(named))) == set(alert_ids())


@pytest.mark.parametrize("name", alert_ids())
def test_an_alert_is_tested_to_fire_and_not_to_fire(name: str) -> None:
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in monitoring.RULE_TESTS]
    cases = [
        (len(case["exp_alerts"]), len(test["input_series"]))
        for file in files
        for test in file["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert any(fires for fires, _ in cases), "no test in which it fires"
    # Either nothing fires in a test, or series that stay silent stand beside those that fire.
    assert any(fires < series for fires, series in cases), "no test in which it does not fire"


def test_burn_rates_are_what_the_share_of_the_budget_says() -> None:
    alerts = {rule["alert"]: rule["expr"] for rule in monitoring.alerts()}
    for name, ratio, budget in (
        ("ErrorBudget", "model:request_errors:ratio", "0.001"),
        ("LatencyBudget", "model:slow_requests:ratio", "0.01"),
    ):
        for speed, share, long, short in (
            ("Fast", 0.02, "1h", "5m"),
            ("Fast", 0.05, "6h", "30m"),
            ("Slowly", 0.10, "3d", "6h"),
        ):
            hours = int(long[:-1]) * (DAY_H if long.endswith("d") else 1)
            rate = share * MONTH_H / hours
            for window in (long, short):
                assert f"{ratio}_{window} > {rate:g} * {budget}" in alerts[f"{name}Burns{speed}"]


def test_the_interval_of_evaluations_is_the_one_that_sums_count_on() -> None:
    config = yaml.safe_load((monitoring.PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["global"]["evaluation_interval"] == "30s"
    sums = re.findall(r"sum_over_time\([^)]*\) \* (\d+)", "".join(rule["expr"] for rule in monitoring.alerts()))
    assert sums == ["30"] * 4


def test_commands_of_the_runbook_exist() -> None:
    for module in re.findall(r"python3? -m (\w+)", RUNBOOK):
        folders = (REPOSITORY_ROOT / module, REPOSITORY_ROOT / "client" / module)
        assert any((folder / "__main__.py").is_file() for folder in folders), module
    makefile = (REPOSITORY_ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (bench-\w+)", RUNBOOK):
        assert f"\n{target}:" in makefile
