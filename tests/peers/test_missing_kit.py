"""A network that could not be measured for want of a kit has a row that says so, everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyhil.errors import MissingTool
from tinyhil.harness.boards import get_board
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network, failed
from tinyhil.harness.model.random_graphs import random_layer
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.pytest_items import HilSession
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings
from tinyhil.results.record import Measurement
from tinyhil.results.report import render_report

NO_KITS = {"TINYHIL_KIT_CMSIS_NN": "", "TINYHIL_KIT_TFLM": ""}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tflite"
    path.write_bytes(write_tflite(random_layer("Conv2D", 3)))
    return path


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    for name in NO_KITS:
        monkeypatch.delenv(name, raising=False)
    return Runner(Settings(tmp_path, cache=tmp_path / "cache"))


def case(model: Path, engine: str) -> Case:
    return Case(Network.load(model), get_engine(engine), get_board("native"))


def tinyhil(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyhil", *arguments]
    environment = {**os.environ, **NO_KITS}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_other_engines_are_measured_and_the_missing_one_is_a_row(model: Path, tmp_path: Path) -> None:
    engines = "cmsis-nn,tinyengine"
    done = tinyhil(tmp_path, "run", model.name, "--board", "native", "--engine", engines, "--json", "o.json")
    assert done.returncode == 10, done.stderr  # the bench's, not the network's
    missing, good = json.loads((tmp_path / "o.json").read_text())
    assert (missing["engine"]["name"], missing["error"]["code"]) == ("cmsis-nn", "MissingTool")
    assert good["correct"]["bit_exact"]
    shown = tinyhil(tmp_path, "compare", "--engines")
    assert shown.returncode == 0, shown.stderr
    assert "cmsis-nn: no kit of cmsis-nn for native: set TINYHIL_KIT_CMSIS_NN" in shown.stdout
    report = tinyhil(tmp_path, "report")
    page = Path(report.stdout.splitlines()[-1]).read_text()
    assert "not run: a tool or a library kit is missing" in page
    assert "no kit of cmsis-nn for native" in page


def test_a_row_without_a_kit_never_hides_figures(runner: Runner, model: Path) -> None:
    wanted = case(model, "cmsis-nn")
    error = MissingTool("no kit of cmsis-nn")
    good = Measurement(
        model=wanted.network.model, engine=failed(wanted, error, "native").engine, board="native",
        mode="native", kind="counted", clock_hz=1, flash=5,
    )  # fmt: skip
    runner.keep(good)
    row = runner.missing(wanted, error)
    assert row.error is not None
    assert row.error.untried
    assert [r.flash for r in runner.store.latest()] == [5]


def test_in_pytest_it_is_an_error_of_the_bench_and_a_row(runner: Runner, model: Path) -> None:
    session = HilSession(runner)
    with pytest.raises(MissingTool, match="no kit of tflm"):
        session.measure(case(model, "tflm"))
    (row,) = session.records
    assert row.error is not None
    assert [r.error for r in runner.store.latest()] == [row.error]
    assert "no kit of tflm for native" in render_report([row])
