#!/usr/bin/env python3
"""Set up a machine for tinyhil: system packages, virtual environment, emulator plug-in.

Runs on a bare Python 3.11 before anything is installed (`make setup` calls it), so it uses the
standard library only. A second run with nothing to do returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "tinyhil-setup.stamp"


@dataclass(frozen=True)
class Tool:
    """A part of the system: how to see that it is there, which Debian packages bring it, what for."""

    name: str
    present: Callable[[], bool]
    packages: tuple[str, ...]
    enables: str
    needed_by: frozenset[str]


def _on_path(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _compiler_has(file: str) -> Callable[[], bool]:
    """Whether the cross compiler finds `file` among its own libraries."""

    def present() -> bool:
        gcc = shutil.which("arm-none-eabi-gcc")
        if gcc is None:
            return False
        found = subprocess.run([gcc, f"-print-file-name={file}"], capture_output=True, text=True, check=False)
        return Path(found.stdout.strip()).is_absolute()

    return present


def _has_venv() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


def _ser2net() -> bool:
    return shutil.which("ser2net", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


_ALL = frozenset({"bench", "test"})
_TEST = frozenset({"test"})
_LIBSTDCXX = "libstdc++-arm-none-eabi-newlib"
TOOLS: tuple[Tool, ...] = (
    Tool("python venv", _has_venv, ("python3-venv",), "the virtual environment", _ALL),
    Tool("cc", _on_path("cc"), ("gcc", "libc6-dev"), "the emulator plug-in and the native board", _ALL),
    Tool("arm-none-eabi-gcc", _on_path("arm-none-eabi-gcc"), ("gcc-arm-none-eabi",), "every firmware", _ALL),
    Tool("newlib", _compiler_has("nano.specs"), ("libnewlib-arm-none-eabi",), "its C library", _ALL),
    Tool("libstdc++", _compiler_has("libstdc++_nano.a"), (_LIBSTDCXX,), "the engine tflm", _TEST),
    Tool("qemu-system-arm", _on_path("qemu-system-arm"), ("qemu-system-arm",), "emulated boards", _ALL),
    Tool("ser2net", _ser2net, ("ser2net",), "tests of boards that labgrid shares", _TEST),
    Tool("chromium", _on_path("chromium"), ("chromium",), "tests that look at the report", _TEST),
    Tool("chromedriver", _on_path("chromedriver"), ("chromium-driver",), "tests that drive it", _TEST),
)  # fmt: skip

EXTRAS = {"bench": ("oracle", "parquet"), "test": ("test", "nas")}


def missing_tools(purpose: str) -> list[Tool]:
    """Tools that `purpose` ("bench" or "test") needs and this machine lacks."""
    return [tool for tool in TOOLS if purpose in tool.needed_by and not tool.present()]


def install_command(tools: Sequence[Tool]) -> list[str]:
    """The one command that installs `tools` on Debian and its relatives."""
    packages = sorted({package for tool in tools for package in tool.packages})
    return ["apt-get", "install", "-y", "--no-install-recommends", *packages]


def _may_install() -> list[str] | None:
    """The prefix under which apt-get may be run, or None."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def _install_system(purpose: str) -> None:
    missing = missing_tools(purpose)
    if not missing:
        return
    for tool in missing:
        print(f"missing: {tool.name} (for {tool.enables})")
    command = install_command(missing)
    prefix = _may_install()
    if prefix is None:
        sys.exit(
            f"tinyhil may not install packages here. As root, run:\n  {' '.join(command)}\nand try again."
        )
    _run([*prefix, "apt-get", "update", "-q"])
    _run([*prefix, *command])
    still = missing_tools(purpose)
    if still:
        sys.exit(f"installed, but still not found: {', '.join(tool.name for tool in still)}")


def _run(command: Sequence[str]) -> None:
    print("+", " ".join(command), flush=True)
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"this failed: {' '.join(command)}")


def _fingerprint(purpose: str) -> str:
    recipe = (ROOT / "pyproject.toml").read_bytes() + repr((EXTRAS[purpose], str(ROOT), sys.version)).encode()
    return hashlib.sha256(recipe).hexdigest()


def _install_python(purpose: str) -> None:
    python = VENV / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(VENV)])
    target = f"{ROOT}[{','.join(EXTRAS[purpose])}]"
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", target])
    _run([str(python), "-m", "tinyhil.harness.targets.recorder"])
    if purpose == "test":
        _install_labgrid(python)


def _install_labgrid(python: Path) -> None:
    """Into an environment of its own: its pyserial would replace the one that PlatformIO uses."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["labgrid"]
    home = VENV / "labgrid"
    _run([str(python), "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *wanted])


def main() -> None:
    """Prepare everything that `--for bench` (default) or `--for test` needs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--for", dest="purpose", choices=sorted(EXTRAS), default="bench")
    purpose: str = parser.parse_args().purpose
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        sys.exit(f"tinyhil needs Python 3.11 to 3.13; this is {sys.version.split()[0]} ({sys.executable})")
    stamps = STAMP.read_text().split() if STAMP.exists() else []
    if _fingerprint(purpose) in stamps and not missing_tools(purpose):
        return
    _install_system(purpose)
    _install_python(purpose)
    STAMP.write_text("\n".join({*stamps, _fingerprint(purpose)}))


if __name__ == "__main__":
    main()
