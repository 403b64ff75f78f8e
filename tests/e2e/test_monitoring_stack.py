"""The real stack, small: a real Prometheus with this repository's rules, on a real Triton and a real gateway.

Shows that what the rules and the dashboard ask about is there under these names and labels, and that a dead backend
process becomes an alert. The configuration is the committed one, with targets of this machine and a second between
scrapes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from server import TritonServer
from tests import monitoring
from tests.e2e import backend_models, gateways, triton
from tests.e2e.backend_models import write_tensor_model, write_text_model
from tests.e2e.wire import Refusal, Wire

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="no prometheus on PATH; install it, on Debian and Ubuntu with: apt-get install prometheus",
)

PATIENCE_S = 30.0
# Nothing here makes these: no GPU, and no reload that failed.
ABSENT = {*monitoring.GPU_METRICS, "gpu:memory_used:ratio", "gpu:utilization:mean_30m", "ALERTS"}


@dataclass(frozen=True)
class Stack:
    """What runs; without the gateway where its programs are missing."""

    triton: TritonServer
    gateway: gateways.Gateway | None
    prometheus_url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus' API."""
        url = f"{self.prometheus_url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series and their values at this moment."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def exposed(self) -> set[str]:
        """The names of all that is scraped."""
        urls = [self.triton.metrics_url, f"{self.prometheus_url}/metrics"]
        urls += [f"http://127.0.0.1:{self.gateway.metrics_port}/metrics"] if self.gateway else []
        names: set[str] = set()
        for url in urls:
            with urllib.request.urlopen(url) as page:
                names |= {re.split(r"[ {]", line.decode())[0] for line in page if not line.startswith(b"#")}
        return names


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository = tmp_path_factory.mktemp("monitored_models")
    for tensors, text in (("bag", "text"), ("doomed", "doomed_text")):
        write_tensor_model(repository, tensors)
        write_text_model(repository, text, tensors)
    backends = backend_models.write_backends(tmp_path_factory.mktemp("monitored_backends"))
    return module_server_factory(repository, backends=backends)


@pytest.fixture(scope="module")
def gateway(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gateways.Gateway | None]:
    if gateways.MISSING:
        yield None
        return
    for start in gateways.factory(tmp_path_factory.mktemp("monitored_gateway")):
        yield start([server], MODELS="text,doomed_text")


@pytest.fixture(scope="module")
def stack(
    server: TritonServer, gateway: gateways.Gateway | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("prometheus")
    port = triton.free_port()
    targets = {"triton": server.endpoints.metrics_port, "prometheus": port}
    write_config(folder, targets | ({"gateway": gateway.metrics_port} if gateway else {}))
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    made = Stack(server, gateway, f"http://127.0.0.1:{port}")
    try:
        triton.eventually(lambda: scraped(made, len(targets)), PATIENCE_S, "Prometheus' first scrapes")
        yield made
    finally:
        process.kill()
        process.wait()


def write_config(folder: Path, ports: dict[str, int]) -> None:
    """The committed configuration, for this machine and faster."""
    shutil.copytree(monitoring.PROMETHEUS, folder, dirs_exist_ok=True)
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    assert ports.keys() <= {job["job_name"] for job in config["scrape_configs"]}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in ports]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    recording = folder / "recording.rules.yml"
    recording.write_text(recording.read_text().replace("interval: 2m", "interval: 1s"))


def scraped(stack: Stack, targets: int) -> bool:
    try:
        return len(stack.query("up == 1")) >= targets
    except OSError:
        return False  # not listening yet


def ask(stack: Stack, round_: int) -> None:
    """Texts that are new, one that is not, one that is bad, and a wrong key."""
    wire = Wire("grpc", stack.triton)
    wire.ask([f"w{round_} good", "film", "film"], "text")
    with pytest.raises(Refusal):
        wire.ask([b"\xff"], "text")
    wire.close()
    if stack.gateway is not None:
        for text, key, status in ((f"w{round_} bad", gateways.KEYS["shop"], 200), ("good", "wrong" * 8, 401)):
            body = gateways.infer_body(text)
            assert stack.gateway.http("POST", "/v2/models/text/infer", body, key=key).status == status


@pytest.fixture(scope="module")
def used(stack: Stack) -> Stack:
    """The stack once it has counted requests before and after a scrape."""
    rates = ["sum(rate(bert_text_executions_total[1m])) > 0"]
    rates += ['sum(rate(gateway_requests_total{code="200"}[1m])) > 0'] if stack.gateway else []
    rounds = itertools.count()

    def counted() -> bool:
        ask(stack, next(rounds))
        return all(stack.query(rate) for rate in rates)

    triton.eventually(counted, PATIENCE_S, "counting")
    # The last of the series that stand on each other.
    triton.eventually(lambda: bool(stack.query("model:request_errors:ratio_3d")), PATIENCE_S, "the rules")
    return stack


def test_every_metric_that_rules_and_dashboard_name_is_exposed(used: Stack) -> None:
    expressions = [rule["expr"] for rule in monitoring.rules()]
    expressions += [*monitoring.dashboard_queries().values(), *monitoring.variable_queries()]
    named = set().union(*map(monitoring.metric_names, expressions))
    exposed = used.exposed()
    made_by_prometheus = monitoring.recorded() | monitoring.PROMETHEUS_OWN
    missing = named - exposed - made_by_prometheus - monitoring.GPU_METRICS
    # A counter of mtail's is there once it has counted; that these are declared is what a unit test checks.
    rare = {"gateway_reloads_total", "gateway_retried_requests_total"}
    assert missing <= (rare if used.gateway else monitoring.gateway_metrics())


def test_every_rule_is_evaluated(used: Stack) -> None:
    rules = [rule for group in used.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(monitoring.rules())
    triton.eventually(
        lambda: all(rule["health"] == "ok" for group in used.get("rules")["groups"] for rule in group["rules"]),
        PATIENCE_S,
        "the evaluation of every rule",
    )


def test_every_panel_and_variable_shows_something(used: Stack) -> None:
    queries = {
        name: query
        for name, query in monitoring.dashboard_queries().items()
        if not monitoring.metric_names(query) & ABSENT and (used.gateway or "gateway" not in query)
    }
    empty: list[str] = []

    def shown() -> bool:
        empty[:] = [name for name, query in queries.items() if not used.query(query)]
        return not empty

    # Some read series that are recorded from others, a second later each.
    with contextlib.suppress(AssertionError):
        triton.eventually(shown, PATIENCE_S, "something in every panel")
    assert not empty
    for query in monitoring.variable_queries():
        assert used.query(query.replace("$model", ".*"))


@gateways.needed
def test_gateway_and_model_agree_on_what_the_objectives_count(used: Stack) -> None:
    for series in ("model:request_errors:ratio_5m", "model:slow_requests:ratio_5m"):
        sources: dict[str, float] = {}

        def both(series: str = series, sources: dict[str, float] = sources) -> bool:
            found = used.query(f'{series}{{model="text"}}')
            sources.update({one["metric"]["source"]: float(one["value"][1]) for one in found})
            return len(sources) == 2

        triton.eventually(both, PATIENCE_S, f"{series} of both")
        assert sources == {"gateway": 0.0, "bert_text": 0.0}, "a bad text and a wrong key are no failures"


def test_a_dead_backend_process_becomes_an_alert(used: Stack) -> None:
    children = psutil.Process(used.triton.pid).children(recursive=True)
    (dead,) = [child for child in children if any("/doomed/" in argument for argument in child.cmdline())]
    dead.kill()

    wire, numbers = Wire("http", used.triton), itertools.count()
    found: list[dict[str, str]] = []

    def alerted() -> bool:
        # One after the other: texts that wait together would fail as one execution.
        with pytest.raises(Refusal, match="not healthy"):
            wire.ask([f"{next(numbers)} film"], "doomed_text")
        found[:] = [one["metric"] for one in used.query('ALERTS{alertname="BackendDead"}')]
        return bool(found)

    triton.eventually(alerted, PATIENCE_S, "the alert")
    wire.close()
    assert {alert["model"] for alert in found} == {"doomed"}
    # For Triton they are successes of the text model in front of it; bert_text knows better.
    failed = 'model:requests_failed:rate5m{source="bert_text", model="doomed_text"} > 0'
    triton.eventually(lambda: bool(used.query(failed)), PATIENCE_S, "the count of bert_text")
