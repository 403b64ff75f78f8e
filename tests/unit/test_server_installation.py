"""Where pip's Triton can run and what is said where it cannot."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from server import installation
from server.errors import InstallationError, PlatformError
from server.installation import Installation, Machine

GOOD = Machine("Linux", "x86_64", (2, 36), sys.version_info[:2])
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages with the files of the wheel, all empty."""
    triton = tmp_path / "pytriton" / "tritonserver"
    for name in (
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        f"python_backend_stubs/{PYTHON}/{installation.STUB}",
        f"python_backend_stubs/3.8/{installation.STUB}",
        "../../nvidia_pytriton.libs/libb64.so",
    ):
        (triton / name).parent.mkdir(parents=True, exist_ok=True)
        (triton / name).touch()
    monkeypatch.setattr(installation, "_libpython_folders", lambda version: (tmp_path / "lib",))
    return tmp_path


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        (replace(GOOD, system="Darwin", architecture="arm64"), "Darwin arm64"),
        (replace(GOOD, system="Windows", architecture="AMD64"), "Windows AMD64"),
        (replace(GOOD, architecture="aarch64"), "Linux aarch64"),
        (replace(GOOD, glibc=(2, 31)), "2.31"),
        (replace(GOOD, glibc=None), "another C library"),
        (replace(GOOD, implementation="pypy"), "pypy"),
        (replace(GOOD, python=(3, 14)), "3.14 (it has 3.8, " + PYTHON),
    ],
)
def test_unsupported_machine_is_named_in_one_line_with_the_container(
    machine: Machine, named: str, site_packages: Path
) -> None:
    with pytest.raises(PlatformError) as caught:
        installation.find(machine, site_packages)
    message = str(caught.value)
    assert named in message
    assert installation.CONTAINER in message
    assert "\n" not in message


def test_good_machine_is_found(site_packages: Path) -> None:
    found = installation.find(GOOD, site_packages)
    assert found.binary.name == "tritonserver"
    assert found.stub.parent.name == PYTHON
    assert found.loader_path == (site_packages / "nvidia_pytriton.libs", site_packages / "lib")


def test_glibc_2_35_is_enough(site_packages: Path) -> None:
    installation.find(replace(GOOD, glibc=(2, 35)), site_packages)


def test_missing_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InstallationError, match=r"nvidia-pytriton .* not installed .* python -m pip install"):
        installation.find(GOOD)


@pytest.mark.parametrize("missing", ["bin/tritonserver", "backends/python/libtriton_python.so"])
def test_incomplete_package_names_the_file(missing: str, site_packages: Path) -> None:
    (site_packages / "pytriton" / "tritonserver" / missing).unlink()
    with pytest.raises(InstallationError, match=missing):
        installation.find(GOOD, site_packages)


def test_python_without_shared_library_is_an_installation_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(InstallationError, match=r"libpython3\.99\.so\.1\.0, .*apt-get install libpython3\.99"):
        installation._libpython_folders("3.99")


def test_environment_puts_our_libraries_and_python_first() -> None:
    found = Installation(Path("/t"), Path("/p"), Path("/s"), Path("/c"), (Path("/wheel.libs"), Path("/lib")))
    environment = installation.environment(found, {"LD_LIBRARY_PATH": "/mine", "PATH": "/bin", "X": "1"})
    assert environment["LD_LIBRARY_PATH"] == "/wheel.libs:/lib:/mine"
    assert environment["PATH"] == f"{sys.prefix}/bin:/bin"
    assert environment["X"] == "1"
