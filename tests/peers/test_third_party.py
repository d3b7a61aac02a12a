"""An engine that is not ours: docs/engines.md, followed to the letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinyhil.errors import UnsupportedOperator, UsageError
from tinyhil.harness import engines
from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import Activation, Relu
from tinyhil.harness.model.random_graphs import random_layer
from tinyhil.harness.model.tflite_writer import write_tflite

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOY = DOCS / "examples" / "engine" / "toy_engine.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's one folder: the example, the settings as the page has them, and a network."""
    shutil.copy(TOY, tmp_path)
    (settings,) = re.findall(r"```toml\n(\[engines\.toy\].*?)```", (DOCS / "engines.md").read_text(), re.S)
    (tmp_path / "tinyhil.toml").write_text(settings)
    b = Builder()
    x = b.input((1, 5, 5, 3), 0.1, 7)
    x = b.op(Relu(Activation.RELU), [x], per_tensor(0.1, 7))
    (tmp_path / "relu.tflite").write_bytes(write_tflite(b.graph("relu", [x])))
    return tmp_path


def test_one_folder_is_enough(folder: Path) -> None:
    """Two engines on a board's twin: both exact, the toy's one layer counted."""
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install gcc-arm-none-eabi qemu-system-arm")
    done = subprocess.run(
        [sys.executable, "-m", "tinyhil", "run", "relu.tflite", "--board", "stm32f746", "--emulate",
         "--engine", "toy,tinyengine", "--json", "out.json"],
        cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    toy, ours = json.loads((folder / "out.json").read_text())
    assert (toy["engine"], ours["engine"]["name"]) == ({"name": "toy", "version": "1"}, "tinyengine")
    assert toy["correct"]["bit_exact"]
    assert toy["correct"]["output_sha256"] == ours["correct"]["output_sha256"]
    assert [layer["name"] for layer in toy["layers"]] == ["Relu"]
    assert 0 < toy["layers"][0]["instructions"] <= toy["instructions"]
    assert toy["peak_ram"]["planned_arena"] == 150


def test_an_installed_package_needs_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip leaves behind: the module, and a folder that names the entry point."""
    shutil.copy(TOY, tmp_path / "toy_packaged.py")
    info = tmp_path / "toy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tinyhil.engines]\ntoy = toy_packaged:create\n")
    monkeypatch.syspath_prepend(tmp_path)
    engines._third_party.cache_clear()
    try:
        assert "toy" in engines.engine_names()
        engine = engines.get_engine("toy")
    finally:
        engines._third_party.cache_clear()
    with pytest.raises(UnsupportedOperator, match="one RELU"):
        engine.generate(random_layer("Softmax", 1), get_board("native"), Options())


@pytest.mark.parametrize("words", ["nowhere:create", "json:create", "no words at all"])
def test_a_factory_that_cannot_be_imported_is_said_with_the_table(words: str) -> None:
    with pytest.raises(UsageError, match=r"\[engines\.toy\] factory = .*module:function"):
        engines.get_engine("toy", {"factory": words})
