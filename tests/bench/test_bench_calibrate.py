"""`tinyhil calibrate` over the whole path of a real board: built, flashed by pyOCD, run, fitted, written."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tinyhil.harness.boards import boards_folder, get_board
from tinyhil.harness.build import Firmware, Program, build
from tinyhil.harness.commands.latency import calibrate
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets import hardware
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.recorder import parse
from tinyhil.harness.targets.target import Job, LayerCount, RawRun
from tinyhil.harness.timing.microbench import microbench_sources
from tinyhil.harness.timing.runs import estimate_runs

pytestmark = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs arm-none-eabi-gcc and qemu-system-arm (make bench)",
)
BOARD = "stm32f746"
TRUE = {"flash_line": 17.0, "ram_line": 8.5}


@pytest.fixture
def bench(
    plug_in: Callable[..., Any], firmware_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """One emulated board on the map of a project in which the command is called."""
    place, board = plug_in()
    map_file = tmp_path / "tinyhil-map.toml"
    map_file.write_text(
        f'[boards.{place.name}]\nkind = "{BOARD}"\nprobe = "{place.probe}"\n'
        f'serial = "{place.serial}"\nemulated = true\n'
    )
    monkeypatch.setenv("TINYHIL_MAP", str(map_file))
    monkeypatch.setenv("TINYHIL_CACHE", str(firmware_cache))
    monkeypatch.chdir(tmp_path)
    return board


def slower_board(cache: Path, trace: Path) -> tuple[LayerCount, ...]:
    """Cycles of each loop on a board with the penalties `TRUE`, made by the model itself."""
    program = Program(microbench_sources(), get_board(BOARD), emulated=True)
    (firmware,) = build([program], Deadline.after(240), cache_dir=cache, jobs=1)
    assert isinstance(firmware, Firmware)
    QemuTarget(cache).run(firmware, Job(((bytes(4),),), trace=trace), Deadline.after(120))
    board = get_board(BOARD)
    timing = {**board.extra["timing"], **TRUE}
    firmware = replace(firmware, board=replace(board, extra={**board.extra, "timing": timing}))
    layers = estimate_runs(parse(trace), firmware, [0])[0].layers
    return tuple(LayerCount(cycles=round(layer.value) if layer else None) for layer in layers)


def test_an_emulated_board_is_flashed_and_run_but_nothing_is_fitted_to_its_counter(
    bench: Any, tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        calibrate, ["--board", BOARD, "--out", str(tmp_path / "new.toml")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert bench.flash.erased
    assert "emulated, so its counter counts no cycles: nothing is fitted" in result.output
    assert not (tmp_path / "new.toml").exists()


def test_penalties_are_fitted_to_what_the_board_measured_and_written(
    bench: Any, firmware_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = slower_board(firmware_cache, tmp_path / "trace")

    def counts(session: Any, *facts: Any) -> RawRun:  # what a board's counter would say
        run: RawRun = session.raw_run("hardware")
        return replace(run, layers=(layers,) * len(session.outputs))

    monkeypatch.setattr(hardware, "_raw_run", counts)
    out = tmp_path / "new.toml"
    result = CliRunner().invoke(calibrate, ["--board", BOARD, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert bench.flash.erased
    old, new = (tomllib.loads(path.read_text()) for path in (boards_folder() / f"{BOARD}.toml", out))
    for key, value in TRUE.items():
        assert new["timing"][key] == pytest.approx(value, rel=0.01)
        assert f"{key}: {old['timing'][key]:g} -> {new['timing'][key]:g} cycles" in result.output
    assert {**new, "timing": 0} == {**old, "timing": 0}
