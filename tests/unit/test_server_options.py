"""The command line and the environment of ``python -m server``, and what may be passed through."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from server import arguments
from server.endpoints import Endpoints
from server.errors import OptionError, PortError
from server.launcher import TritonServer
from server.options import FLAGS, parse


def test_defaults_listen_on_this_machine_only() -> None:
    options = parse([], {})
    assert options.endpoints == Endpoints("127.0.0.1", 8000, 8001, 8002)
    assert options.model_repository == Path("model_repository")
    assert options.on_backend_death == "restart"
    assert options.extra_args == ()


def test_defaults_are_the_safe_ones() -> None:
    options = parse([], {})
    assert options.verify
    assert options.restricted_apis == ("model-repository", "shared-memory", "trace", "logging")
    assert (options.admin_key_file, options.control, options.trace_endpoint) == (None, None, None)
    assert options.backend_directory is None
    assert not options.triton_selects


def test_what_is_restricted_can_be_chosen() -> None:
    assert parse(["--restricted-apis=statistics,trace"], {}).restricted_apis == ("statistics", "trace")
    assert parse([], {"BERT_TRITON_RESTRICTED_APIS": "none"}).restricted_apis == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--model-control-mode=poll"], "what Triton then loads later is not verified"),
        (["--no-verify", "--control=c", "--", "--model-control-mode=explicit"], "together with --control"),
        (["--control=c", "--", "--allow-grpc=false"], "--control needs Triton's gRPC port"),
        (["--control=c", "--", "--grpc-use-ssl=true"], "--control needs Triton's gRPC port without TLS"),
        (["--", "--http-restricted-api=trace:a=b"], "use --restricted-apis, or set that to none"),
        (["--trace-endpoint=http://c:4318/v1/traces", "--", "--trace-config=rate=1"], "together with --trace-endpoint"),
    ],
)
def test_flags_that_make_each_other_untrue_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(words, {})


def test_polling_can_be_asked_for_where_nothing_is_verified() -> None:
    assert parse(["--no-verify", "--", "--model-control-mode=poll"], {}).triton_selects
    assert parse(["--restricted-apis=none", "--", "--http-restricted-api=trace:a=b"], {}).extra_args


def test_flag_beats_environment_beats_default() -> None:
    environ = {"BERT_TRITON_HTTP_PORT": "9000", "BERT_TRITON_GRPC_PORT": "9001", "BERT_TRITON_HOST": ""}
    endpoints = parse(["--http-port", "9100"], environ).endpoints
    assert endpoints == Endpoints("127.0.0.1", 9100, 9001, 8002)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BERT_TRITON_HTTP_PORT", "eighty"),
        ("BERT_TRITON_GRPC_PORT", "65536"),
        ("BERT_TRITON_METRICS_PORT", "-1"),
        ("BERT_TRITON_EXIT_TIMEOUT_S", "1.5"),
        ("BERT_TRITON_START_TIMEOUT_S", "nan"),
        ("BERT_TRITON_ON_BACKEND_DEATH", "ignore"),
        ("BERT_TRITON_MODEL_CONFIG_NAME", "my gpu"),
        ("BERT_TRITON_RESTRICTED_APIS", "trace,models"),
        ("BERT_TRITON_TRACE_ENDPOINT", "collector:4318"),
        ("BERT_TRITON_TRACE_ENDPOINT", "http://collector:port/v1/traces"),
        ("BERT_TRITON_TRACE_ENDPOINT", "http://me:secret@collector/v1/traces"),
    ],
)
def test_bad_values_are_errors_wherever_they_come_from(variable: str, value: str) -> None:
    with pytest.raises(OptionError, match=f"{variable} is '{value}', expected"):
        parse([], {variable: value})
    flag = next(flag.name for flag in FLAGS if flag.variable == variable)
    with pytest.raises(OptionError, match=f"{flag} is '{value}', expected"):
        parse([f"{flag}={value}"], {})


def test_everything_after_the_dashes_is_passed_through() -> None:
    options = parse(["--http-port", "0", "--", "--log-verbose", "1", "--http-thread-count=2"], {})
    assert options.extra_args == ("--log-verbose", "1", "--http-thread-count=2")


@pytest.mark.parametrize(
    ("extra", "instead"),
    [
        ("--http-port=1", "--http-port before"),
        ("--model-store=x", "--model-repository before"),
        ("--grpc-address=0.0.0.0", "--host before"),
        ("--exit-timeout-secs=3", "--exit-timeout-s before"),
        ("--backend-directory=x", "--backend-directory before"),
        ("--allow-http=false", "readiness is asked over HTTP"),
        ("--backend-config=python,shm-region-prefix-name=x", "cannot be passed through"),
        ("word", "takes flags only"),
    ],
)
def test_what_the_launcher_decides_cannot_be_passed_through(extra: str, instead: str) -> None:
    with pytest.raises(OptionError, match=instead):
        parse(["--", extra], {})
    with pytest.raises(OptionError, match=instead):
        TritonServer("model_repository", extra_args=[extra])


def test_abbreviated_and_unknown_flags_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--http", "1"], ["--log-verbose=1"]):
        with pytest.raises(SystemExit) as caught:
            parse(argv, {})
        assert caught.value.code == 2
    assert "unrecognized arguments: --log-verbose=1" in capsys.readouterr().err


def test_one_port_for_two_services_is_an_error() -> None:
    with pytest.raises(OptionError, match="--grpc-port and --http-port are both 8000"):
        parse(["--grpc-port", "8000"], {})
    Endpoints(http_port=0, grpc_port=0)


def test_services_can_be_switched_off_except_http() -> None:
    assert not TritonServer("r", extra_args=["--allow-grpc", "false"]).serves("grpc")
    assert TritonServer("r").serves("grpc")


def test_arguments_are_read_in_both_spellings() -> None:
    parsed = arguments.parse(["--load-model=a", "--load-model", "b", "--allow-metrics", "0"])
    assert parsed == {"load-model": ["a", "b"], "allow-metrics": ["0"]}


@pytest.mark.parametrize(
    ("host", "url"), [("0" + ".0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("h", "http://h:1")]
)
def test_urls_are_for_connecting(host: str, url: str) -> None:
    assert Endpoints(host, 1, 2, 3).url("http") == url


def test_urls_name_the_protocol() -> None:
    endpoints = Endpoints("127.0.0.1", 1, 2, 3)
    assert endpoints.url("grpc") == "grpc://127.0.0.1:2"
    assert endpoints.url("metrics") == "http://127.0.0.1:3/metrics"


def test_free_ports_are_chosen_and_taken_ones_named() -> None:
    resolved = Endpoints().resolved()
    assert resolved.chosen
    assert len(set(resolved.ports().values())) == 3
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"port {port} for metrics: .*--metrics-port"):
            Endpoints(metrics_port=port).resolved()


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(PortError, match=r"203\.0\.113\.1"):
        Endpoints("203.0.113.1").resolved()
