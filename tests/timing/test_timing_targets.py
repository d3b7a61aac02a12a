"""Which emulator runs a board's firmware is a choice, and the record names it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.model import read_tflite, write_tflite
from tinyhil.harness.model.random_graphs import random_network
from tinyhil.harness.runner import TWINS, Runner
from tinyhil.harness.settings import Settings, load_settings
from tinyhil.harness.targets import unicorn
from tinyhil.results.compare import compare
from tinyhil.results.gates import parse_rules
from tinyhil.results.record import MODES, Measurement

needs_both = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm") and unicorn.available()),
    reason="needs arm-none-eabi-gcc and qemu-system-arm (make bench) and pip install tinyhil[unicorn]",
)
BOARDS = ("stm32f746", "nucleo-l4r5zi")
MARK = 18  # instructions of one layer mark, which only firmware for real boards has


def network() -> Network:
    data = write_tflite(random_network(7))
    return Network("random007", data, read_tflite(data, "random007"))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Measurement]:
    """One small network on each board by each of the two emulators that are always there."""
    folder = tmp_path_factory.mktemp("targets")
    found: dict[tuple[str, str], Measurement] = {}
    for target in ("qemu", "unicorn"):
        runner = Runner(Settings(folder, target=target, cache=folder / "cache", timeout=120))
        cases = [Case(network(), get_engine("tinyengine"), get_board(name)) for name in BOARDS]
        runner.prepare(cases)
        found |= {(case.board.name, target): runner.measure(case) for case in cases}
    return found


@needs_both
@pytest.mark.parametrize("board", BOARDS)
def test_both_emulators_measure_the_same_network_and_the_record_names_which(
    records: dict[tuple[str, str], Measurement], board: str
) -> None:
    ours, reference = records[board, "unicorn"], records[board, "qemu"]
    for record, mode in ((ours, "unicorn"), (reference, "qemu")):
        assert record.error is None
        assert (record.mode, record.kind) == (mode, "counted")
        assert record.correct is not None
        assert record.correct.bit_exact
    pairs = [(a.instructions, b.instructions) for a, b in zip(ours.layers, reference.layers, strict=True)]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    # Each layer ends with the mark of the next one, and the mark looks at how many are left.
    assert all(abs(difference - MARK) <= 1 for difference in differences[:-1])
    assert ours.provenance["emulator"].startswith("Unicorn")


@needs_both
@pytest.mark.parametrize("board", BOARDS)
def test_the_flashed_elf_tells_its_conditions_and_the_estimate_says_what_it_lacks(
    records: dict[tuple[str, str], Measurement], board: str
) -> None:
    ours, reference = records[board, "unicorn"], records[board, "qemu"]
    kind = get_board(board)
    assert ours.clock_hz == kind.clock_hz
    assert ours.provenance["wait_states"] == str(kind.extra["hal"]["flash_wait_states"])
    assert "no dcache simulation" in ours.provenance["estimate"]
    assert "estimate" not in reference.provenance
    assert ours.cycles_est is not None
    assert reference.cycles_est is not None
    assert ours.cycles_est.model.endswith(":nodata")
    assert ours.cycles_est.low < reference.cycles_est.value < ours.cycles_est.high


@needs_both
def test_rows_of_two_emulators_are_not_compared(records: dict[tuple[str, str], Measurement]) -> None:
    ours, reference = records["stm32f746", "unicorn"], records["stm32f746", "qemu"]
    (finding,) = compare([ours], [reference], parse_rules("instructions:0"))
    assert finding.status == "unlike"
    assert {"mode", "wait_states", "caches"} <= {d.what for d in finding.differences if d.unlike}


@needs_both
def test_an_estimate_that_is_refused_costs_no_count(
    records: dict[tuple[str, str], Measurement], tmp_path: Path
) -> None:
    whole = get_board("stm32f746")
    # The chip's registers will not say what this board's file promises, and its bus depends on the clock.
    timing = {**whole.extra["timing"], "bus_divider": 2}
    slower = replace(whole, clock_hz=200_000_000, extra={**whole.extra, "timing": timing})
    runner = Runner(Settings(tmp_path, target="unicorn", cache=tmp_path / "cache", timeout=120))
    record = runner.measure(Case(network(), get_engine("tinyengine"), slower))
    assert record.clock_hz == 216_000_000
    assert record.instructions == records["stm32f746", "unicorn"].instructions
    assert record.cycles_est is None
    assert record.provenance["estimate"].startswith("none: the core ran at 216 MHz")


def test_every_choice_is_a_mode_of_records() -> None:
    assert set(TWINS) <= set(MODES)
    for name, make in TWINS.items():
        assert make(Path("cache")).mode == name


def test_a_target_may_be_a_setting_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"TINYHIL_TARGET": "renode"})
    assert Runner(settings).target(get_board("stm32f746")).mode == "renode"
    with pytest.raises(UsageError, match="no target is called 'simulator'; there are qemu, unicorn, renode"):
        Runner(replace(settings, target="simulator")).target(get_board("stm32f746"))
    with pytest.raises(UsageError, match="hardware is required"):
        Runner(settings, require_hardware=True).target(get_board("stm32f746"))
