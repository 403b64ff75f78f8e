"""Reading metrics pages, odd ones included, and fetching them from a small real server."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from loadtest.errors import UsageError
from loadtest.server_side import prometheus
from loadtest.server_side.exporter import Gauges, TextCounts
from loadtest.server_side.prometheus import MetricsError, Page, Sample

PAGE = """
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="sentiment",version="1"} 21
nv_inference_request_success{model="sentiment",version="2"} 4
nv_inference_request_success{model="other",version="1"} 100
nv_cpu_utilization 0.25
bert_text_cache_hits_total{model="sentiment",version="1"} 3
bert_text_tokens_total{model="sentiment",version="1"} 1.66e+02
bert_text_padding_tokens_total{model="sentiment",version="1"} 0
"""


def test_a_page_of_triton_is_read() -> None:
    page = prometheus.parse(PAGE)
    assert len(page.samples) == 7
    assert page.total("nv_inference_request_success", model="sentiment") == 25
    assert page.total("nv_inference_request_success", model="sentiment", version="2") == 4
    assert page.total("nv_inference_request_success", model="absent") is None
    assert page.select("nv_cpu_utilization") == [Sample("nv_cpu_utilization", {}, 0.25)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m 1", Sample("m", {}, 1.0)),
        ("  m\t1  ", Sample("m", {}, 1.0)),
        ("m{} 1", Sample("m", {}, 1.0)),
        ('m{a="b"} 1 1700000000000', Sample("m", {"a": "b"}, 1.0)),
        ('m{a="b"} 1 -5', Sample("m", {"a": "b"}, 1.0)),
        ('m{a="b",} 1', Sample("m", {"a": "b"}, 1.0)),
        ('m { a = "b" , c = "d" } 1', Sample("m", {"a": "b", "c": "d"}, 1.0)),
        ('m{a="x\\"y\\\\z\\n,}{ 1"} 2', Sample("m", {"a": 'x"y\\z\n,}{ 1'}, 2.0)),
        ('m{a="\\d"} 2', Sample("m", {"a": "\\d"}, 2.0)),
        ("ns:m_total 1e3", Sample("ns:m_total", {}, 1000.0)),
        ("m +Inf", Sample("m", {}, math.inf)),
        ("m -7", Sample("m", {}, -7.0)),
        ('m_bucket{le="1"} 3 # {trace="a"} 0.5', Sample("m_bucket", {"le": "1"}, 3.0)),
    ],
)
def test_odd_lines_that_are_right(line: str, expected: Sample) -> None:
    assert prometheus.parse(line).samples == (expected,)


@pytest.mark.parametrize(
    "line",
    ["m", "m one", "1m 1", 'm{a="b} 1', "m{a=b} 1", 'm{a="b" c="d"} 1', "m{a 1", "# m 1", "", "# EOF", "m 1 2 3"],
)
def test_lines_that_are_none_are_passed_over(line: str) -> None:
    assert prometheus.parse(f"before 1\n{line}\nafter 2\r\n").samples == (
        Sample("before", {}, 1.0),
        Sample("after", {}, 2.0),
    )


def test_a_page_of_something_else_is_refused_and_an_empty_one_is_not() -> None:
    with pytest.raises(MetricsError, match="<!doctype html>"):
        prometheus.parse("<!doctype html>\n<p>Hello")
    assert prometheus.parse("").samples == prometheus.parse("# only comments\n").samples == ()


def test_a_number_that_is_none_has_no_total() -> None:
    page = prometheus.parse('g{gpu="0"} NaN\ng{gpu="1"} 1')
    assert page.total("g") is None
    assert page.total("g", gpu="1") == 1


# --- Fetching ---


class _Handler(BaseHTTPRequestHandler):
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("authorization"))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/metrics")
        else:
            self.send_response(200 if self.path.startswith("/metrics") else 404)
        self.end_headers()
        self.wfile.write(b"m 1\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_page_is_fetched_with_headers(url: str) -> None:
    assert prometheus.fetch(f"{url}/metrics?x=1", headers={"authorization": "secret"}).total("m") == 1
    assert _Handler.seen[-1] == "secret"


@pytest.mark.parametrize(("path", "status"), [("/absent", "404"), ("", "404"), ("/moved", "302")])
def test_another_status_is_an_error_and_redirects_are_not_followed(url: str, path: str, status: str) -> None:
    before = len(_Handler.seen)
    with pytest.raises(MetricsError, match=status):
        prometheus.fetch(url + path)
    assert len(_Handler.seen) == before + 1


def test_no_server_is_an_error_that_names_the_url() -> None:
    with pytest.raises(MetricsError, match=r"http://127\.0\.0\.1:1/metrics"):
        prometheus.fetch("http://127.0.0.1:1/metrics")


@pytest.mark.parametrize("url", ["localhost:8002/metrics", "grpc://h:1", "file:///etc/passwd", "http://", "http://h:x"])
def test_a_url_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="--metrics-url"):
        prometheus.fetch(url)


# --- What is read from pages ---


def test_text_counts_are_of_one_model_and_version() -> None:
    page = prometheus.parse(PAGE)
    assert TextCounts.read(page, "sentiment", "1") == TextCounts(3, 166, 0)
    assert TextCounts.read(page, "sentiment", "") == TextCounts(3, 166, 0)
    assert not TextCounts.read(page, "sentiment", "2").present
    assert not TextCounts.read(page, "other", "1").present


def test_text_counts_differ_and_never_go_down() -> None:
    assert TextCounts(5, 200, 10).since(TextCounts(3, 166, 0)) == TextCounts(2, 34, 10)
    assert TextCounts(5, 200, None).since(TextCounts(3, None, 0)) == TextCounts(2, None, None)
    with pytest.raises(MetricsError, match="loaded anew"):
        TextCounts(0, 200, 10).since(TextCounts(3, 166, 0))


def test_gauges_are_means_of_the_busiest_gpu_and_the_most_memory() -> None:
    pages = iter(
        [
            'nv_gpu_utilization{gpu_uuid="a"} 0.5\nnv_gpu_utilization{gpu_uuid="b"} 0\n'
            'nv_gpu_memory_used_bytes{gpu_uuid="a"} 1000\nnv_gpu_memory_used_bytes{gpu_uuid="b"} 10\n'
            "nv_cpu_utilization 0.2",
            'nv_gpu_utilization{gpu_uuid="a"} 0.9\nnv_gpu_utilization{gpu_uuid="b"} NaN\n'
            'nv_gpu_memory_used_bytes{gpu_uuid="a"} 3000\nnv_gpu_memory_used_bytes{gpu_uuid="b"} 10\n'
            "nv_cpu_utilization 0.4",
        ]
    )
    two = threading.Event()

    def read() -> Page:
        text = next(pages, None)
        if text is None:
            two.set()
            raise MetricsError("the server is gone")  # goes on, and is passed over
        return prometheus.parse(text)

    gauges = Gauges(read, gpu=True)
    gauges.start()
    assert two.wait(20)
    gauges.stop()
    gauges.stop()
    assert gauges.gpu_utilisation() == pytest.approx(0.7)
    assert gauges.gpu_memory_bytes() == 3010
    assert gauges.cpu_utilisation() == pytest.approx(0.3)


def test_gauges_without_a_sample_are_none() -> None:
    gauges = Gauges(lambda: Page(()), gpu=False)
    assert (gauges.gpu_utilisation(), gauges.gpu_memory_bytes(), gauges.cpu_utilisation()) == (None, None, None)
