"""Setting up a machine: what is missing is named with the one command that installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tinyhil.harness import bootstrap

SCRIPT = Path(bootstrap.__file__)


def test_a_machine_without_tools_is_told_the_one_command(tmp_path: Path) -> None:
    copy = tmp_path / "harness" / "bootstrap.py"
    copy.parent.mkdir()
    copy.write_text(SCRIPT.read_text())
    (tmp_path / "pyproject.toml").write_text("")
    found = subprocess.run(
        [sys.executable, str(copy)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert "missing: arm-none-eabi-gcc" in found.stdout
    assert "missing: qemu-system-arm" in found.stdout
    commands = [line for line in found.stderr.splitlines() if "apt-get install" in line]
    assert len(commands) == 1
    assert {"gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"} <= set(commands[0].split())
    assert not (tmp_path / ".venv").exists()


def test_one_command_installs_every_missing_tool_once() -> None:
    command = bootstrap.install_command(bootstrap.TOOLS)
    packages = command[command.index("--no-install-recommends") + 1 :]
    assert len(packages) == len(set(packages))
    assert set(packages) == {package for tool in bootstrap.TOOLS for package in tool.packages}


def test_the_bench_does_not_ask_for_what_only_tests_need() -> None:
    bench = {tool.name for tool in bootstrap.TOOLS if "bench" in tool.needed_by}
    assert "chromium" not in bench
    assert "torch" not in " ".join(bootstrap.EXTRAS["bench"])


def test_doctor_reports_and_fails_without_a_compiler(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinyhil", "doctor"]
    empty = subprocess.run(
        command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert empty.returncode == 1
    assert "MISSING arm-none-eabi-gcc" in empty.stdout
    assert "apt-get install" in empty.stdout
    assert "Traceback" not in empty.stderr
