"""What pyproject.toml asks for: no older release than the libraries that stand on it take."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
OURS = {asked.name: asked for asked in map(Requirement, PROJECT["dependencies"])}


def lower_bound(asked: Requirement) -> Version:
    return max(
        (Version(bound.version) for bound in asked.specifier if bound.operator == ">="), default=Version("0")
    )


# These two are held at the release that is tested, so that what they require is what any user has.
@pytest.mark.parametrize("library", ["trl", "peft"])
def test_our_lower_bounds_are_no_lower_than_those_of_the_libraries(library: str) -> None:
    theirs = [asked for asked in map(Requirement, requires(library) or []) if asked.marker is None]
    shared = [asked for asked in theirs if asked.name in OURS]
    assert {"transformers", "accelerate"} <= {asked.name for asked in shared}
    lower = {asked.name: str(asked) for asked in shared if lower_bound(OURS[asked.name]) < lower_bound(asked)}
    assert lower == {}
