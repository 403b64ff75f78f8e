"""Finds the Triton that pip installs and says whether it can run on this machine.

Owns: where ``nvidia-pytriton`` keeps its binary, libraries, caches and stubs, which platforms it
supports, and which version of Triton it is. Starts nothing. The wheel is located, never imported.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from server.errors import InstallationError, PlatformError

DISTRIBUTION = "nvidia-pytriton"
MIN_GLIBC = (2, 35)  # the wheel's tag is manylinux_2_35
CONTAINER = "nvcr.io/nvidia/tritonserver:24.10-py3"
STUB = "triton_python_backend_stub"

USE_CONTAINER = f"use NVIDIA's container on the same model repository: {CONTAINER}"
PIP_INSTALL = "python -m pip install -c constraints.txt -e ./client -e '.[server]'"


@dataclass(frozen=True)
class Installation:
    """The files of one installed Triton.

    Attributes:
        binary: the ``tritonserver`` executable.
        python_backend: the wheel's folder with ``libtriton_python.so``.
        stub: ``triton_python_backend_stub`` of the running Python.
        cache_directory: for ``--cache-directory``.
        loader_path: folders for ``LD_LIBRARY_PATH``.
    """

    binary: Path
    python_backend: Path
    stub: Path
    cache_directory: Path
    loader_path: tuple[Path, ...]


@dataclass(frozen=True)
class Machine:
    """What decides whether the wheel can run: read from this machine, or made up by a test."""

    system: str
    architecture: str
    glibc: tuple[int, int] | None
    python: tuple[int, int]
    implementation: str = "cpython"

    @classmethod
    def this(cls) -> Machine:
        """The machine this process runs on."""
        return cls(
            platform.system(), platform.machine(), _glibc(), sys.version_info[:2], sys.implementation.name.lower()
        )


def _glibc() -> tuple[int, int] | None:
    """The C library's version, None where it is not glibc (musl, macOS)."""
    name, version = platform.libc_ver()
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if name == "glibc" and match else None


def check_platform(machine: Machine) -> None:
    """Raises PlatformError, in one line, where no wheel of pip's Triton can run."""
    if machine.system != "Linux" or machine.architecture not in ("x86_64", "AMD64"):
        raise PlatformError(
            f"the Triton that pip installs runs on Linux x86-64 only, this is {machine.system} "
            f"{machine.architecture}; {USE_CONTAINER}"
        )
    if machine.glibc is None:
        raise PlatformError(
            f"the Triton that pip installs needs glibc, this system has another C library; {USE_CONTAINER}"
        )
    if machine.glibc < MIN_GLIBC:
        found, needed = (".".join(map(str, version)) for version in (machine.glibc, MIN_GLIBC))
        raise PlatformError(
            f"the Triton that pip installs needs glibc {needed} or newer, this system has {found}; {USE_CONTAINER}"
        )
    if machine.implementation != "cpython":
        raise PlatformError(f"Triton's Python backend needs CPython, this is {machine.implementation}; {USE_CONTAINER}")


def find(machine: Machine | None = None, site_packages: Path | None = None) -> Installation:
    """Locates the installed Triton.

    Args:
        machine: the machine to judge; this one by default.
        site_packages: where the wheel was unpacked; found through Python's import system by default.

    Raises:
        PlatformError: the wheel cannot run on this machine or has no stub for this Python.
        InstallationError: the wheel or Python's shared library is not installed.
    """
    machine = machine or Machine.this()
    check_platform(machine)
    root = site_packages or _site_packages()
    triton = root / "pytriton" / "tritonserver"
    stubs = triton / "python_backend_stubs"
    version = ".".join(map(str, machine.python))
    installation = Installation(
        binary=triton / "bin" / "tritonserver",
        python_backend=triton / "backends" / "python",
        stub=stubs / version / STUB,
        cache_directory=triton / "caches",
        loader_path=(root / "nvidia_pytriton.libs", *_libpython_folders(version)),
    )
    if not installation.stub.is_file() and stubs.is_dir():
        found = ", ".join(sorted((folder.name for folder in stubs.iterdir()), key=_version_key)) or "none"
        raise PlatformError(
            f"{DISTRIBUTION} has no Python backend for Python {version} (it has {found}); {USE_CONTAINER}"
        )
    for path in (
        installation.binary,
        installation.stub,
        installation.python_backend / "libtriton_python.so",
        installation.loader_path[0],
    ):
        if not path.exists():
            raise InstallationError(
                f"{DISTRIBUTION} is incomplete, {path} is missing; reinstall it: {PIP_INSTALL} --force-reinstall"
            )
    return installation


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _site_packages() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise InstallationError(
            f"the package {DISTRIBUTION} (the Triton server) is not installed for {sys.executable}; run: {PIP_INSTALL}"
        )
    return Path(next(iter(spec.submodule_search_locations))).parent


def _libpython_folders(version: str) -> tuple[Path, ...]:
    """Where ``libpython<version>.so.1.0`` is, which the stub links to; empty where the loader finds it alone."""
    name = f"libpython{version}.so.1.0"
    folders = [Path(folder) for folder in (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix, "lib")) if folder]
    for folder in folders:
        if (folder / name).exists():
            return (folder,)
    try:
        ctypes.CDLL(name)
    except OSError:
        raise InstallationError(
            f"Triton's Python backend needs {name}, which is neither in {folders[0]} nor known to the loader; "
            f"install it (Debian: apt-get install libpython{version}) or use a Python built with --enable-shared"
        ) from None
    return ()


def environment(installation: Installation, base: dict[str, str]) -> dict[str, str]:
    """The environment for tritonserver: its libraries found, and this Python found by its backends."""
    libraries = [str(path) for path in installation.loader_path]
    if base.get("LD_LIBRARY_PATH"):
        libraries.append(base["LD_LIBRARY_PATH"])
    # The stub embeds Python and asks PATH which environment (site-packages) it belongs to.
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)])
    return {**base, "LD_LIBRARY_PATH": os.pathsep.join(libraries), "PATH": path}


def package_version() -> str:
    """The version of the wheel, for logs and tables.

    Triton's own version (2.51.0 in wheel 0.7.0) is written nowhere in the wheel: `server.readiness.Probe.version`
    asks the running server.
    """
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise InstallationError(
            f"the package {DISTRIBUTION} (the Triton server) is not installed; run: {PIP_INSTALL}"
        ) from None
