"""``locust -f loadtest/locustfile.py`` as Locust users expect it, from any working directory."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server import TritonServer
from tests.e2e import loadtest_models, triton

LOCUST = [sys.executable, "-m", "locust", "-f", str(triton.REPOSITORY_ROOT / "loadtest" / "locustfile.py")]
HEADLESS = ["--headless", "-u", "4", "-r", "100", "--only-summary"]  # all at once
EXACT = re.compile(r"loadtest: (\S+ \S+): ([\d,]+) answers, exact latency in ms with 95 % intervals: p50 ([\d.]+)")


def locust(folder: Path, *words: str, seconds: int = 2) -> subprocess.CompletedProcess[str]:
    command = [*LOCUST, *HEADLESS, "-t", f"{seconds}s", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


def exact(finished: subprocess.CompletedProcess[str]) -> dict[str, tuple[int, float]]:
    return {
        name: (int(count.replace(",", "")), float(p50))
        for name, count, p50 in EXACT.findall(finished.stdout + finished.stderr)
    }


def requests_of_locust(finished: subprocess.CompletedProcess[str], row: str) -> int:
    """The "# reqs" of Locust's own table."""
    found = re.search(rf"^{row}\s+(\d+)\s", finished.stdout + finished.stderr, re.MULTILINE)
    assert found, finished.stdout + finished.stderr
    return int(found[1])


@pytest.fixture(scope="module")
def known(module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    backends, repository = loadtest_models.write(tmp_path_factory.mktemp("locust_models"))
    return module_server_factory(repository, backends=backends, models=("quick", "sleeper", "flaky"))


def test_both_user_classes_ask_the_demo_model(demo_server: TritonServer, tmp_path: Path) -> None:
    finished = locust(tmp_path, "--grpc-url", demo_server.grpc_url, "--http-url", demo_server.http_url)
    assert finished.returncode == 0, finished.stderr
    found = exact(finished)
    assert set(found) == {"gRPC sentiment", "HTTP sentiment"}
    for name, (count, _) in found.items():
        assert count == requests_of_locust(finished, r"\s+".join(name.split()))  # one event a call


def test_the_host_chooses_the_user_class(demo_server: TritonServer, tmp_path: Path) -> None:
    finished = locust(tmp_path, "--host", demo_server.http_url, "--model", "sentiment_int8", "--batch-size", "2")
    assert finished.returncode == 0, finished.stderr
    assert set(exact(finished)) == {"HTTP sentiment_int8"}


def test_processes_send_their_exact_latencies_to_the_master(demo_server: TritonServer, tmp_path: Path) -> None:
    port = str(triton.free_port())
    finished = locust(
        tmp_path,
        *("--grpc-url", demo_server.grpc_url, "--http-url", demo_server.http_url, "--processes", "2"),
        *("--master-bind-port", port, "--master-port", port),
        seconds=6,
    )
    assert finished.returncode == 0, finished.stderr
    found = exact(finished)
    assert set(found) == {"gRPC sentiment", "HTTP sentiment"}
    assert sum(count for count, _ in found.values()) == requests_of_locust(finished, r"\s+Aggregated")


def test_exact_percentiles_are_not_rounded_to_buckets(known: TritonServer, tmp_path: Path) -> None:
    finished = locust(tmp_path, "--host", known.grpc_url, "--model", "sleeper")
    (_, p50_ms) = exact(finished)["gRPC sleeper"]
    service_ms = loadtest_models.SERVICE_S * 1e3
    assert 3 * service_ms < p50_ms < 50 * service_ms  # four users, one at a time
    assert p50_ms != round(p50_ms)


def test_failed_requests_are_locusts_failures_and_its_exit_status(known: TritonServer, tmp_path: Path) -> None:
    finished = locust(tmp_path, "--host", known.http_url, "--model", "flaky")
    assert finished.returncode == 1
    assert "ServerFaultError" in finished.stdout + finished.stderr
    row = re.search(r"HTTP\s+flaky\s+(\d+)\s+(\d+)\(", finished.stdout + finished.stderr)
    assert row
    asked, failed = int(row[1]), int(row[2])
    assert asked > 20
    assert failed == pytest.approx(asked / 5, abs=2 * 4)  # what four users had under way


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--model", "nope"], 1, "no model 'nope'"),
        (["--host", "grpc://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["HttpUser"], 2, "HttpUser cannot ask"),
        (["--host", "ftp://x"], 2, "expected grpc://host:port"),
        (["--batch-size", "0"], 2, "at least 1"),
        (["--texts", "none.txt"], 2, "none.txt"),
        (["--model", "quick", "--batch-size", "9"], 2, "max_batch_size"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    known: TritonServer, tmp_path: Path, words: list[str], status: int, message: str
) -> None:
    host = [] if "--host" in words else ["--host", known.grpc_url]
    model = [] if "--model" in words else ["--model", "quick"]
    finished = locust(tmp_path, *host, *model, *words, seconds=60)
    assert finished.returncode == status
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@contextmanager
def web_interface(folder: Path, *words: str) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := triton.free_port())}"
    process = subprocess.Popen(
        [*LOCUST, "--web-host", "127.0.0.1", "--web-port", str(port), *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.status == 200
        except OSError:
            return False

    try:
        triton.eventually(answers, 60, "the web interface")
        yield url
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def stats(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/stats/requests", timeout=60) as response:
        rows = json.load(response)["stats"]
    return {f"{row['method']} {row['name']}": row["num_requests"] for row in rows}


def swarm(url: str, **form: object) -> None:
    data = urllib.parse.urlencode({"user_count": 2, "spawn_rate": 2, **form}).encode()
    with urllib.request.urlopen(f"{url}/swarm", data, timeout=60) as response:
        assert json.load(response)["success"]


def test_the_web_interface_shows_the_options_and_tests_what_they_say(known: TritonServer, tmp_path: Path) -> None:
    words = ["--host", known.grpc_url, "--model", "nope", "--header", "x-token=a-secret"]
    with web_interface(tmp_path, *words) as url:
        with urllib.request.urlopen(url, timeout=60) as response:
            page = response.read().decode()
        assert "repeat_share" in page
        assert "a-secret" not in page
        swarm(url, model="sleeper")
        triton.eventually(lambda: stats(url).get("gRPC sleeper", 0) > 10, 60, "requests over gRPC")
        urllib.request.urlopen(f"{url}/stop", b"", timeout=60).close()
        swarm(url, model="quick", host=known.http_url)
        triton.eventually(lambda: stats(url).get("HTTP quick", 0) > 10, 60, "requests over HTTP")


def test_the_web_interface_says_why_a_test_cannot_be(known: TritonServer, tmp_path: Path) -> None:
    with web_interface(tmp_path, "--host", known.grpc_url, "--model", "nope") as url:
        swarm(url)

        def told() -> bool:
            with urllib.request.urlopen(f"{url}/exceptions", timeout=60) as response:
                return "no model 'nope'" in response.read().decode()

        triton.eventually(told, 60, "the message")
