"""The documentation builds without a warning, its recipes are valid, and its demonstration is true."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinyhil.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]


def recipes(page: str) -> list[Any]:
    text = (ROOT / "docs" / page).read_text()
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


@cache
def known_options() -> set[str]:
    """Options of pytest and of the plug-in, from pytest itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"--[a-z][a-z-]+", done.stdout))


def test_the_site_builds_with_warnings_as_errors(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install 'tinyhil[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text()
    assert "--hil-compare BASE" in reference
    assert "--retry-failed" in reference
    assert "<!-- " + "settings" not in reference


def test_the_workflow_has_what_a_runner_asks_for() -> None:
    workflow = recipes("ci.md")[0]
    assert workflow["jobs"]["emulated"]["runs-on"]
    steps = workflow["jobs"]["emulated"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    job = recipes("ci.md")[1]["tinyhil"]
    assert job["artifacts"]["reports"]["junit"] == "junit.xml"
    assert all(
        isinstance(line, str) for line in [*job["before_script"], *job["script"], *job["after_script"]]
    )


@pytest.mark.parametrize("page", ["ci.md", "results.md", "sweeps.md", "tutorial.md"])
def test_the_pages_name_only_options_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    pytest_options = known_options()
    for option in re.findall(r"--(?:hil-[a-z-]+|board)", text):
        assert option in pytest_options, option
    code = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
    for name, rest in re.findall(r"^(?:\s|[$(>-]|run:)*tinyhil ([a-z-]+)(.*)$", code, re.MULTILINE):
        assert name in COMMANDS, name
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", rest.split("#")[0])) <= known, rest


def test_a_slow_layer_that_does_not_exist_is_no_silent_success() -> None:
    path = ROOT / "docs" / "demo" / "slow_kernel.py"
    spec = importlib.util.spec_from_file_location("slow_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from tinyhil.harness.boards import get_board
    from tinyhil.harness.engine import Options
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.model.random_graphs import random_layer

    sources = get_engine("tinyengine").generate(random_layer("Add", 1), get_board("stm32f746"), Options())
    (layer,) = sources.layers
    planted = module.plant(sources, layer.symbol, 7)
    assert sum("n = 7;" in text for text in planted.files.values()) == 1
    with pytest.raises(ValueError, match="no function layer_99"):
        module.plant(sources, "layer_99", 7)


@pytest.mark.slow
def test_a_slowdown_of_three_percent_in_one_kernel_is_caught_by_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "demo" / "catch_a_regression.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"slower layers: 3 Conv2D .* \(\+[23]\.\d\d%\)", done.stdout)
