"""The couplings that let PlatformIO run without its registry."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
import semantic_version
from platformio.dependencies import get_core_dependencies

from tinyhil.errors import MissingTool
from tinyhil.harness.build.platformio import check_platformio
from tinyhil.harness.build.project import templates_folder


def shim_version() -> str:
    manifest = templates_folder() / "platformio" / "tool-scons" / "package.json"
    return str(json.loads(manifest.read_text())["version"])


def test_the_stand_in_for_scons_has_the_version_that_platformio_asks_for() -> None:
    wanted = get_core_dependencies()["tool-scons"]
    assert semantic_version.Version(shim_version()) in semantic_version.SimpleSpec(wanted)


def test_the_stand_in_says_the_version_of_the_scons_that_it_runs() -> None:
    major, minor, patch = map(int, importlib.metadata.version("SCons").split("."))
    assert shim_version() == f"{major}.{major * 10000 + minor * 100 + patch}.0"


def test_versions_that_would_ask_the_registry_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_platformio()
    real = importlib.metadata.version
    for package, version in (("SCons", "4.9.0"), ("platformio", "7.0.0")):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, p=package, v=version: v if name == p else real(name),
        )
        with pytest.raises(MissingTool, match=version):
            check_platformio()
