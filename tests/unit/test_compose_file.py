"""docker-compose.yml and the Dockerfiles, as text: what must hold for every service, and what must be named once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.utils import canonicalize_name

from deploy.gateway.settings import VARIABLES
from server.installation import CONTAINER
from tests.conftest import REPOSITORY_ROOT
from tests.unit.test_constraints import pins

DEPLOY = REPOSITORY_ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY_ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
# A tag that says a version, and neither a moving one (latest, 3, 3.11) nor none.
PINNED = re.compile(r"[a-z0-9./-]+:[a-z]*-?v?(\d+\.\d+\.\d+|\d{2}\.\d{2}-py3|\d{8})[a-z0-9.-]*")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"], "a service without a profile would start with every other"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["user"].split(":")[0] not in ("0", "root")
    assert all(service[limit] for limit in ("mem_limit", "memswap_limit", "cpus", "pids_limit"))
    assert {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}.isdisjoint(service)
    # A Python without a healthcheck for workers and one-off commands; what stays up says whether it is well.
    assert "healthcheck" in service or name.startswith("loadtest-")
    assert service["restart"] == ("no" if name == "loadtest-master" else "unless-stopped")


@pytest.mark.parametrize("name", SERVICES)
def test_what_comes_from_this_machine_is_mounted_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, dict):
            assert volume["type"] == "bind"
            assert volume["read_only"] is True
        elif volume.partition(":")[0] not in COMPOSE["volumes"]:
            assert volume.startswith("./deploy/"), "docker would make an empty folder, if it is not there, as root"
            assert volume.endswith(":ro")


def test_only_the_gateway_is_published_beyond_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"gateway", "prometheus", "grafana"}
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in published[name])
    # Triton is on a network without a way out or in, and on no other.
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name in ("triton", "triton-gpu") if set(SERVICES[name]["networks"]) == {"inside"}} == {
        "triton",
        "triton-gpu",
    }


def test_every_setting_of_the_gateway_can_be_set() -> None:
    fixed = {"GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_METRICS_HOST", "GATEWAY_METRICS_PORT", "GATEWAY_STATE_FOLDER"}
    assert SERVICES["gateway"]["environment"].keys() == VARIABLES.keys() - fixed


def test_the_gpu_service_answers_to_the_name_of_the_cpu_service() -> None:
    assert SERVICES["triton-gpu"]["networks"]["inside"]["aliases"] == ["triton"]
    (device,) = SERVICES["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert "gpu" in device["capabilities"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.suffix)
def test_an_image_is_built_on_a_pinned_one_as_an_ordinary_user(file: Path) -> None:
    text = file.read_text()
    (default,) = re.findall(r"^FROM \$\{BASE_IMAGE:-(.+?)\}", text, re.MULTILINE)
    assert PINNED.fullmatch(default), default
    users = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)
    assert users
    assert "0" not in users
    # Both builders take it: the one before BuildKit knows no mounts, and no frontend can be fetched without a registry.
    assert "--mount" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    assert not text.startswith("# syntax")


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_a_pulled_image_is_pinned(name: str) -> None:
    default = re.fullmatch(r"\$\{[A-Z_]+:-(.+)\}", SERVICES[name]["image"])
    assert default is not None
    assert PINNED.fullmatch(default[1]), default[1]


def test_the_gpu_image_is_the_container_that_error_messages_name() -> None:
    assert f"FROM ${{BASE_IMAGE:-{CONTAINER}}}" in (DEPLOY / "Dockerfile.gpu").read_text()
    others = [DEPLOY / "Dockerfile.gpu", REPOSITORY_ROOT / "docker-compose.yml"]
    assert sum(file.read_text().count("nvcr.io/") for file in others) == 1


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("requirements-*.txt")), ids=lambda file: file.stem)
def test_what_an_image_installs_is_pinned(file: Path) -> None:
    names = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert names == sorted(names)
    assert {canonicalize_name(name) for name in names} <= set(pins())
