"""Options of a client: what is refused, and that the message says what to write instead."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bert_triton_client import ClientConfig, InvalidConfigError, TLSConfig
from bert_triton_client.config import ClientOptions, Endpoint, check_traceparent


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("grpc://localhost:9001", Endpoint("grpc", False, "localhost", 9001)),
        ("grpc://localhost", Endpoint("grpc", False, "localhost", 8001)),
        ("http://localhost", Endpoint("http", False, "localhost", 8000)),
        ("http://gateway/bert/", Endpoint("http", False, "gateway", 8000, "/bert")),
        ("https://example.org", Endpoint("http", True, "example.org", 443)),
        ("grpcs://example.org:8443", Endpoint("grpc", True, "example.org", 8443)),
        ("HTTP://[::1]:8000", Endpoint("http", False, "::1", 8000)),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8001", r"which protocol"),
        ("127.0.0.1:8001", r"which protocol"),
        ("", r"which protocol"),
        ("ftp://localhost", r"grpc://host:8001 or http://host:8000"),
        ("grpc:localhost:8001", r"which protocol"),
        ("grpc://", r"names no host"),
        ("http://localhost:port", r"expected a URL such as"),
        ("http://localhost:99999", r"expected a URL such as"),
        ("grpc://localhost/path", r"remove '/path'"),
        ("http://localhost?model=x", r"only a host"),
        (None, r"NoneType"),
    ],
)
def test_bad_urls_say_what_to_write(url: Any, says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        ClientConfig(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidConfigError, match="headers") as caught:
        ClientConfig("http://me:secret@localhost")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("request_timeout_s", -1),
        ("request_timeout_s", float("inf")),
        ("request_timeout_s", "3"),
        ("max_in_flight", 0),
        ("max_in_flight", True),
        ("max_retries", -1),
        ("max_request_texts", 0),
        ("max_request_bytes", 0),
        ("backoff_initial_s", 0),
        ("backoff_max_s", 0.01),  # below backoff_initial_s
        ("model", ""),
        ("headers", {"bad name": "x"}),
        ("headers", {"name": "line\r\nbreak"}),
        ("headers", {"name": "ü"}),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),  # not a function
    ],
)
def test_bad_options_name_the_option(option: str, value: Any) -> None:
    with pytest.raises(InvalidConfigError, match=option.rstrip("s")):
        ClientConfig("grpc://localhost", **{option: value})


def test_tls_files(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    with pytest.raises(InvalidConfigError, match="go together"):
        TLSConfig(certificate=file)
    with pytest.raises(InvalidConfigError, match="is not a file"):
        TLSConfig(ca_certificates=tmp_path / "none.pem")
    with pytest.raises(InvalidConfigError, match=r"write grpcs://localhost:8001"):
        ClientConfig("grpc://localhost", tls=TLSConfig(ca_certificates=file))
    ClientConfig("grpcs://localhost", tls=TLSConfig(ca_certificates=file))


def test_the_keyword_arguments_of_the_clients_are_the_fields() -> None:
    assert set(ClientOptions.__annotations__) == {field.name for field in fields(ClientConfig)} - {"url", "endpoint"}


def test_headers_are_neither_printed_nor_changed_afterwards() -> None:
    headers = {"Authorization": "Bearer secret"}
    config = ClientConfig("http://localhost", headers=headers)
    headers["other"] = "x"
    assert dict(config.headers) == {"authorization": "Bearer secret"}
    assert "secret" not in repr(config)


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("value", [None, f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"])
def test_traceparents(value: str | None) -> None:
    assert check_traceparent(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"01-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01\r\nhost: other",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01".encode(),
        17,
    ],
)
def test_other_traceparents_are_refused_and_named(value: Any) -> None:
    with pytest.raises(InvalidConfigError, match="expected None or 00-<trace>-<parent>-<flags>") as caught:
        check_traceparent(value)
    assert repr(value) in str(caught.value)


def test_a_traceparent_has_one_source() -> None:
    with pytest.raises(InvalidConfigError, match="remove one of them"):
        ClientConfig("http://localhost", headers={"Traceparent": f"00-{TRACE}-{PARENT}-01"}, traceparent=lambda: None)
