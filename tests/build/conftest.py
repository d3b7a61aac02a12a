"""Build tests stand alone: a copy of the templates whose runtime is one small main."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from build_programs import MAIN

from tinyhil.harness.build import platformio, project
from tinyhil.harness.build.toolchain import CROSS_HINT


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session, as a user has it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Templates with MAIN as the whole runtime, so that these tests do not depend on the wire."""
    root = tmp_path_factory.mktemp("templates")
    shutil.copytree(project.templates_folder(), root, dirs_exist_ok=True)
    for path in (root / "runtime").iterdir():
        if path.name not in ("hal.h", "instrumentation.h", "tinyhil_network.h"):
            path.unlink()
    (root / "runtime" / "main.c").write_text(MAIN)
    monkeypatch.setattr(project, "templates_folder", lambda: root)
    monkeypatch.setattr(platformio, "templates_folder", lambda: root)
    return root


@pytest.fixture
def cross_compiler() -> None:
    """Skips where there is no cross compiler."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip(f"needs the cross compiler: {CROSS_HINT}")


@pytest.fixture
def qemu(cross_compiler: None) -> str:
    """Path of the emulator; skips where there is none."""
    found = shutil.which("qemu-system-arm")
    if found is None:
        pytest.skip("needs the emulator: apt install qemu-system-arm")
    return found
