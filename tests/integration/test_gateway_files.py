"""What the gateway hands to nginx, mtail and openssl, judged by those programs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.gateway import certificates, nginx_config, refusals, request_log
from deploy.gateway.errors import CertificateError
from deploy.gateway.keys import ApiKey
from deploy.gateway.nginx_config import Content
from deploy.gateway.replicas import Replica
from deploy.gateway.settings import Settings
from tests.conftest import REPOSITORY_ROOT
from tests.e2e import gateways

pytestmark = gateways.needed

MTAIL_PROGRAM = REPOSITORY_ROOT / "deploy/gateway/access_log.mtail"
RECORDING_RULES = REPOSITORY_ROOT / "deploy/prometheus/recording.rules.yml"
REPLICAS = (Replica("127.0.0.1", 8000, 8001), Replica("fd00::7", 8000, 8001))
KEYS = (ApiKey("shop", "k" * 32), ApiKey("blog", "a.b~c+d/e-f_" * 3 + "=="))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="gateway_") as folder:
        settings = Settings(models=("sentiment", "a.b-c"), api_keys=None, certificate=None, state_folder=Path(folder))
        (settings.state_folder / "temporary").mkdir()
        made = certificates.make_self_signed(settings.certificate_names)
        for path, content in zip(nginx_config.certificate_files(settings), (made.chain, made.private_key), strict=True):
            certificates.write_private(path, content)
        yield settings


def judged(config: str, folder: Path) -> str:
    """What nginx says of a configuration; nothing if it takes it."""
    file = folder / "judged.conf"
    file.write_text(config)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    return subprocess.run(
        [nginx, "-t", "-q", "-e", "stderr", "-c", str(file)], capture_output=True, text=True, check=False, timeout=60
    ).stderr


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rate_per_minute": None},
        {"rate_burst": 0},
        {"trace_percent": 0},
        {"trace_percent": 100},
        {"trusted_proxies": ("10.0.0.0/8", "fd00::/8")},
        {"max_body_bytes": 2**30},
    ],
    ids=str,
)
def test_nginx_takes_every_kind_of_configuration(settings: Settings, changed: dict[str, object]) -> None:
    changed_settings = dataclasses.replace(settings, **changed)  # type: ignore[arg-type]
    for replicas, keys, public in itertools.product(((), REPLICAS), (None, (), KEYS), (True, False)):
        content = Content(changed_settings, replicas, keys, "0" * 64, public)
        assert judged(nginx_config.render(content), settings.state_folder) == "", content


def test_refusals_can_be_said_in_both_protocols(settings: Settings) -> None:
    for refusal in refusals.table(settings):
        assert refusal.grpc in refusals.GRPC_STATUSES
        assert refusal.message.isascii()
        assert not set(refusal.message) & set("\"'\\$%{}")


def line(**changed: str) -> str:
    """A line of the access log with the fields that nginx would log."""
    values = dict.fromkeys((name for name, _ in request_log.FIELDS), "x")
    values |= {
        "protocol": "http",
        "route": "infer",
        "model": "a.b-c",
        "code": "200",
        "duration_s": "0.250",
        "tries": "a",
    }
    values |= changed
    quoted = {name for name, value in request_log.FIELDS if value.startswith('"')}
    return "{" + ",".join(f'"{n}":"{v}"' if n in quoted else f'"{n}":{v}' for n, v in values.items()) + "}\n"


def counts(lines: str, folder: Path) -> dict[str, float]:
    """What mtail counts in these lines."""
    (folder / "log").write_text(lines)
    done = subprocess.run(
        [
            *("mtail", "-progs", str(MTAIL_PROGRAM), "-logs", str(folder / "log"), "-logtostderr"),
            *("-one_shot", "-one_shot_format", "prometheus", "-emit_prog_label=false"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    series = (line.rpartition(" ") for line in done.stdout.splitlines() if line.startswith("gateway_"))
    return {name: float(value) for name, _, value in series}


def test_mtail_counts_what_nginx_logs(tmp_path: Path) -> None:
    found = counts(
        line() * 3
        + line(duration_s="0.000", tries="a, b")
        + line(duration_s="12.000", code="504")
        + line(protocol="grpc", code="RESOURCE_EXHAUSTED", model="none", route="none", duration_s="0.001")
        + line(code='200","model":"forged'),
        tmp_path,
    )
    http, grpc = 'model="a.b-c",protocol="http"', 'model="none",protocol="grpc"'
    assert found[f'gateway_requests_total{{code="200",{http}}}'] == 4
    assert found[f'gateway_requests_total{{code="504",{http}}}'] == 1
    assert found[f'gateway_requests_total{{code="RESOURCE_EXHAUSTED",{grpc}}}'] == 1
    assert found[f"gateway_retried_requests_total{{{http}}}"] == 1
    bucket = f"gateway_request_duration_seconds_bucket{{{http},le="
    # mtail 3.0.0~rc50 puts a duration of 0 into no bucket unless it is told otherwise.
    assert [found[f'{bucket}"{le}"}}'] for le in ("0.005", "0.1", "0.25", "0.5", "10", "+Inf")] == [1, 1, 1, 4, 4, 5]
    assert found[f"gateway_request_duration_seconds_count{{{http}}}"] == 5
    assert found[f"gateway_request_duration_seconds_sum{{{http}}}"] == pytest.approx(12.75, abs=1e-4)
    assert not [name for name in found if "forged" in name]


VALID = re.compile(r"[235]..|OK|UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS")
FAILED = re.compile(r"5..|UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS")


def labels(found: dict[str, float], metric: str, label: str) -> set[str]:
    series = re.compile(rf'{metric}{{(?:.*,)?{label}="([^"]*)".*}}')
    return {match[1] for name in found if (match := series.fullmatch(name))}


def test_the_rules_hold_the_same_codes_valid_and_failed() -> None:
    selectors = re.findall(r'gateway_requests_total{model!="none", code=~"(.*?)"}', RECORDING_RULES.read_text())
    assert selectors == [VALID.pattern, FAILED.pattern]


def test_only_valid_requests_are_in_the_histogram(tmp_path: Path) -> None:
    http = (101, 200, 204, 304, 400, 401, 403, 404, 408, 413, 415, 429, 431, 499, 500, 502, 503, 504)
    codes = [*refusals.GRPC_STATUSES, *map(str, http)]
    found = counts("".join(line(model=code, code=code) for code in codes), tmp_path)
    assert labels(found, "gateway_requests_total", "code") == set(codes)
    expected = {code for code in codes if VALID.fullmatch(code)}
    assert labels(found, "gateway_request_duration_seconds_count", "model") == expected


def test_failures_have_series_before_the_first_one(tmp_path: Path) -> None:
    known = '{"gateway":"model","model":"a.b-c"}\n'
    found = counts(known + line(code="502") * 2 + known, tmp_path)
    codes = {
        "grpc": {code for code in refusals.GRPC_STATUSES if FAILED.fullmatch(code)},
        "http": {"500", "502", "503", "504"},
    }
    series = 'gateway_requests_total{{code="{}",model="a.b-c",protocol="{}"}}'
    expected = {series.format(code, protocol): 0 for protocol, of in codes.items() for code in of}
    expected[series.format("502", "http")] = 2
    assert {name: value for name, value in found.items() if name.startswith("gateway_requests_total")} == expected


def test_mtail_counts_what_the_gateway_says_of_itself(tmp_path: Path) -> None:
    found = counts(
        '{"gateway":"reload","outcome":"applied"}\n' * 2
        + '{"gateway":"reload","outcome":"failed"}\n'
        + '{"gateway":"state","replicas_ready":2,"certificate_expires_s":1826877344,"dropped_lines":3}\n',
        tmp_path,
    )
    assert found == {
        'gateway_reloads_total{outcome="applied"}': 2,
        'gateway_reloads_total{outcome="failed"}': 1,
        "gateway_replicas_ready": 2,
        "gateway_certificate_expires_seconds": 1826877344,
        "gateway_dropped_log_lines_total": 3,
    }


def test_a_certificate_for_development_is_good_for_a_year() -> None:
    made = certificates.make_self_signed(("localhost", "127.0.0.1", "gateway"))
    days = (made.expires_s - time.time()) / 86400
    assert 364 < days <= 365
    assert made.fingerprint != certificates.make_self_signed(("localhost",)).fingerprint
    assert made.private_key.decode() not in repr(made)


def test_files_that_do_not_belong_together_are_refused() -> None:
    one, other = (certificates.make_self_signed(("localhost",)) for _ in range(2))
    for chain, key in ((one.chain, other.private_key), (b"", b""), (one.chain, b"x"), (one.private_key, one.chain)):
        with pytest.raises(CertificateError, match="cannot be used"):
            certificates.Certificate(chain, key)


def test_a_key_with_a_password_is_refused_without_asking(tmp_path: Path) -> None:
    made = certificates.make_self_signed(("localhost",))
    (tmp_path / "key").write_bytes(made.private_key)
    locked = subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "key"), "-aes256", "-passout", "pass:secret"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    with pytest.raises(CertificateError, match="unencrypted key"):
        certificates.Certificate(made.chain, locked)


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.gateway", *arguments],
        cwd=REPOSITORY_ROOT,
        env={**os.environ, **{f"GATEWAY_{name}": value for name, value in variables.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_configuration_can_be_looked_at(settings: Settings) -> None:
    done = command(
        "--print-config",
        MODELS="sentiment",
        API_KEYS="/nowhere",
        CERTIFICATE="self-signed",
        STATE_FOLDER=str(settings.state_folder),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert judged(done.stdout, settings.state_folder) == ""


@pytest.mark.parametrize(
    ("variables", "code", "message"),
    [
        ({"PORT": "x"}, 2, "GATEWAY_PORT='x'"),
        ({"API_KEYS": "/nowhere/keys"}, 1, "GATEWAY_API_KEYS '/nowhere/keys' cannot be read"),
        ({"CERTIFICATE": "/nowhere/a", "PRIVATE_KEY": "/nowhere/b"}, 1, "GATEWAY_CERTIFICATE '/nowhere/a' cannot be"),
        ({"STATE_FOLDER": "/proc/nowhere"}, 1, "GATEWAY_STATE_FOLDER '/proc/nowhere' cannot be used"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line(variables: dict[str, str], code: int, message: str) -> None:
    given = {"MODELS": "a", "API_KEYS": "off", "CERTIFICATE": "self-signed", **variables}
    done = command(**given)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_gateway_that_is_not_there_fails_its_check() -> None:
    done = command("--check", MODELS="a", API_KEYS="off", CERTIFICATE="self-signed", PORT="1")
    assert done.returncode == 1
    assert "127.0.0.1:1 does not answer" in done.stderr
