"""Every variable of the gateway: what it takes, and that a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.gateway.errors import SettingsError
from deploy.gateway.settings import PREFIX, VARIABLES, Settings, Triton
from tests.conftest import REPOSITORY_ROOT

NEEDED = {
    "GATEWAY_MODELS": "sentiment, sentiment_int8",
    "GATEWAY_API_KEYS": "/keys",
    "GATEWAY_CERTIFICATE": "self-signed",
}


def read(**variables: str | None) -> Settings:
    given = {**NEEDED, **{f"GATEWAY_{name}": value for name, value in variables.items()}}
    return Settings.from_environment({name: value for name, value in given.items() if value is not None})


def test_three_variables_are_enough() -> None:
    settings = Settings.from_environment({**NEEDED, "PATH": "/bin", "NOT_GATEWAY_PORT": "x"})
    assert settings == Settings(
        models=("sentiment", "sentiment_int8"), api_keys=Path("/keys"), certificate=None, private_key=None
    )
    assert settings.tritons == (Triton("triton", 8000, 8001),)
    assert (settings.rate_per_minute, settings.port) == (100, 8443)
    assert settings.metrics_host == "127.0.0.1"


def test_an_empty_variable_is_not_set() -> None:
    assert read(TRITONS="", RATE_PER_MINUTE=" ", NOBODY="") == read()


def test_each_variable_is_a_field() -> None:
    assert {name.removeprefix("GATEWAY_").lower() for name in VARIABLES} == set(Settings.__dataclass_fields__)


def default(variable: str) -> str:
    """As the page says it."""
    if variable in NEEDED:
        return "must be set"
    value = Settings.__dataclass_fields__[variable.removeprefix(PREFIX).lower()].default
    if isinstance(value, tuple):
        parts = (f"{one.host}:{one.http_port}:{one.grpc_port}" if isinstance(one, Triton) else one for one in value)
        return ",".join(parts) or "none"
    return "none" if value is None else str(value)


def test_the_page_has_each_variable_with_its_default() -> None:
    page = (REPOSITORY_ROOT / "docs/gateway.md").read_text(encoding="utf-8")
    table = page.partition("## Settings")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    said = {PREFIX + name.removeprefix("| `"): value.partition(" (image")[0] for name, value, _ in rows}
    assert said == {variable: default(variable) for variable in VARIABLES}


def test_what_can_be_said_is_understood() -> None:
    settings = read(
        API_KEYS="off",
        CERTIFICATE="/chain.pem",
        PRIVATE_KEY="/key.pem",
        TRITONS="triton-a:8000:8001, 10.0.0.7:18000:18001",
        RATE_PER_MINUTE="off",
        TRUSTED_PROXIES="10.0.0.0/8,192.168.1.1",
        STATE_FOLDER="/run/gateway",
    )
    assert settings.api_keys is None
    assert (settings.certificate, settings.private_key) == (Path("/chain.pem"), Path("/key.pem"))
    assert settings.tritons == (Triton("triton-a", 8000, 8001), Triton("10.0.0.7", 18000, 18001))
    assert settings.rate_per_minute is None
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.168.1.1")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MODELS", None, "GATEWAY_MODELS is not set"),
        ("MODELS", "", "GATEWAY_MODELS is not set"),
        ("MODELS", " , ", "GATEWAY_MODELS is empty"),
        ("MODELS", "a/b", "'a/b'"),
        ("MODELS", "a b", "'a b'"),
        ("MODELS", 'a"', "'a\"'"),
        ("MODELS", "a,b,a", "'a' twice"),
        ("API_KEYS", None, "GATEWAY_API_KEYS is not set"),
        ("API_KEYS", "keys", "GATEWAY_API_KEYS='keys', expected an absolute path"),
        ("CERTIFICATE", None, "GATEWAY_CERTIFICATE is not set"),
        ("CERTIFICATE", "/chain.pem", "'/chain.pem' and none"),
        ("PRIVATE_KEY", "/key.pem", "none and '/key.pem'"),
        ("CERTIFICATE_NAMES", "a,,*.b", r"'\*.b'"),
        ("TRITONS", ",", "names no Triton"),
        ("TRITONS", "triton", "'triton' is not of the form"),
        ("TRITONS", "triton:8000", "'triton:8000' is not of the form"),
        ("TRITONS", "triton:8000:http", "is not of the form"),
        ("TRITONS", "triton:8000:70000", "is 70000, expected 1 to 65535"),
        ("TRITONS", "tri;ton:8000:8001", "'tri;ton'"),
        ("HOST", "gateway", "GATEWAY_HOST holds 'gateway'"),
        ("METRICS_HOST", "localhost", "GATEWAY_METRICS_HOST holds 'localhost'"),
        ("PORT", "https", "GATEWAY_PORT='https', expected a whole number"),
        ("PORT", "0", "GATEWAY_PORT is 0, expected 1 to 65535"),
        ("PORT", "9145", "both 9145"),
        ("METRICS_PORT", "-1", "GATEWAY_METRICS_PORT='-1'"),
        ("RATE_PER_MINUTE", "0", "GATEWAY_RATE_PER_MINUTE is 0"),
        ("RATE_PER_MINUTE", "none", "GATEWAY_RATE_PER_MINUTE='none'"),
        ("RATE_BURST", "1.5", "GATEWAY_RATE_BURST='1.5'"),
        ("CONCURRENT_PER_IP", "0", "GATEWAY_CONCURRENT_PER_IP is 0"),
        ("MAX_BODY_BYTES", "8M", "GATEWAY_MAX_BODY_BYTES='8M'"),
        ("MAX_JSON_BYTES", "0", "GATEWAY_MAX_JSON_BYTES is 0"),
        ("MAX_BODY_BYTES", "10", "GATEWAY_MAX_BODY_BYTES is 10"),
        ("TRY_TIMEOUT_S", "0", "GATEWAY_TRY_TIMEOUT_S is 0"),
        ("CLIENT_TIMEOUT_S", "0", "GATEWAY_CLIENT_TIMEOUT_S is 0"),
        ("DRAIN_TIMEOUT_S", "99999", "GATEWAY_DRAIN_TIMEOUT_S is 99999"),
        ("STATE_FOLDER", "/" + "a" * 60, "longer than the"),
        ("STATE_FOLDER", '/a"b', "cannot; rename it"),
        ("WORKERS", "0", "GATEWAY_WORKERS is 0"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "'10.0.0.0/33'"),
        ("TRACE_PERCENT", "101", "GATEWAY_TRACE_PERCENT is 101"),
        ("RATE", "100", "GATEWAY_RATE is unknown; did you mean GATEWAY_RATE_PER_MINUTE"),
        ("KEYS_FILE", "/keys", "GATEWAY_KEYS_FILE is unknown"),
    ],
)
def test_a_wrong_value_is_named(variable: str, value: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(**{variable: value})
