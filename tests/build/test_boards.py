"""Board files: what a board kind must hold, and what follows from it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tinyhil.errors import UsageError
from tinyhil.harness import boards
from tinyhil.harness.boards import Board, all_boards, boards_folder, get_board, parse_board
from tinyhil.harness.build.project import templates_folder

CHIPS = [board for board in all_boards().values() if not board.is_native]
NAMES = {
    "stm32f746",
    "stm32f412",
    "stm32f429",
    "stm32f767",
    "stm32h743",
    "nucleo-l4r5zi",
    "stm32f405",
    "stm32f407",
    "native",
}
# What QEMU's MPS2 machines have at these addresses; the upper half of the PSRAM holds the inputs.
TWIN_MEMORY = {0x00000000: 4 << 20, 0x20000000: 4 << 20, 0x60000000: 8 << 20}

each_chip = pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)


def test_the_promised_boards_are_there() -> None:
    assert set(all_boards()) >= NAMES


@pytest.mark.parametrize("path", sorted(boards_folder().glob("*.toml")), ids=lambda path: path.stem)
def test_every_board_file_parses(path: Path) -> None:
    board = parse_board(path.stem, tomllib.loads(path.read_text()))
    assert board.title
    assert board.core in ("native", "cortex-m4", "cortex-m7")
    assert board.flash.size > 0
    assert board.ram.size > 0


@each_chip
def test_a_chip_has_all_that_a_build_and_a_run_need(chip: Board) -> None:
    assert chip.fpu
    assert chip.clock_hz > 0
    assert (templates_folder() / "hal" / f"hal_{chip.family}.c").is_file()
    assert chip.extra["serial"]["baud"] > 0
    assert chip.extra["pyocd"]["target"]
    assert chip.extra["pyocd"]["connect_mode"] in ("halt", "pre-reset", "under-reset", "attach")
    assert (chip.icache is not None) == (chip.core == "cortex-m7")


@each_chip
def test_the_clock_tree_gives_the_stated_clock(chip: Board) -> None:
    hal = chip.extra["hal"]
    source = hal.get("hse_hz", 0) or 16_000_000  # HSI
    into_vco = source // hal["pll_m"]
    assert source % hal["pll_m"] == 0
    assert into_vco * hal["pll_n"] // 2 == chip.clock_hz
    low, high = {"stm32f4": (1, 2), "stm32f7": (1, 2), "stm32h7": (8, 16), "stm32l4": (2.66, 8)}[chip.family]
    assert low * 1e6 <= into_vco <= high * 1e6


@each_chip
@pytest.mark.parametrize("emulated", [False, True], ids=["chip", "twin"])
def test_regions_lie_inside_the_ram_or_outside_it_but_never_across(chip: Board, emulated: bool) -> None:
    memories = chip.memory_map(emulated)
    start, end = memories.ram.origin, memories.ram.origin + memories.ram.size
    for region in memories.regions:
        inside = start <= region.origin and region.origin + region.size <= end
        outside = region.origin + region.size <= start or region.origin >= end
        assert inside or outside, region


@each_chip
def test_the_twin_has_the_boards_sizes_and_room_for_them(chip: Board) -> None:
    twin, real = chip.memory_map(True), chip.memory_map(False)
    assert (twin.flash.size, twin.ram.size) == (real.flash.size, real.ram.size)
    assert [r.size for r in twin.regions] == [r.size for r in real.regions]
    for memory in (twin.flash, twin.ram, *twin.regions):
        base = max(origin for origin in TWIN_MEMORY if origin <= memory.origin)
        assert memory.origin + memory.size <= base + TWIN_MEMORY[base], memory


def test_the_f746_has_its_first_64_kb_of_ram_in_dtcm() -> None:
    board = get_board("stm32f746")
    assert (board.flash.size, board.ram.size) == (1024 * 1024, 320 * 1024)
    dtcm = board.memory_map(emulated=True).region("dtcm")
    assert (dtcm.origin, dtcm.size) == (board.ram.origin, 64 * 1024)


def test_regions_of_the_ram_move_with_it_to_the_twin_and_others_stay() -> None:
    table = tomllib.loads((boards_folder() / "stm32h743.toml").read_text())
    table["regions"]["half"] = {"origin": 0x2400_0000, "size": 0x1000}
    twin = parse_board("h", table).memory_map(emulated=True)
    assert twin.region("half").origin == twin.ram.origin
    assert twin.region("dtcm").origin == 0x2000_0000


def test_an_unknown_board_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown board 'stm32f999'; known are .*stm32f746"):
        get_board("stm32f999")


def test_a_board_file_of_ones_own_is_taken_by_its_path_and_named_after_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        (boards_folder() / "stm32f412.toml").read_text().replace("clock_hz = 100", "clock_hz = 84")
    )
    board = get_board(str(mine))
    assert (board.name, board.clock_hz) == ("mine", 84_000_000)
    assert get_board(str(boards_folder() / "stm32f412.toml")) == get_board("stm32f412")
    with pytest.raises(UsageError, match="no such board file"):
        get_board(str(tmp_path / "other.toml"))
    with pytest.raises(UsageError, match="stm32f412 is another board already"):
        get_board(str(mine.rename(tmp_path / "stm32f412.toml")))


@pytest.mark.parametrize("key", ["title", "core", "clock_hz", "flash", "ram"])
def test_a_missing_key_is_named(key: str) -> None:
    table = tomllib.loads((boards_folder() / "stm32f746.toml").read_text())
    del table[key]
    with pytest.raises(UsageError, match=key):
        parse_board("mine", table)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('title = "no closing quote\n')
    monkeypatch.setattr(boards, "boards_folder", lambda: tmp_path)
    with pytest.raises(UsageError, match=r"board mine: .*mine\.toml is not valid TOML"):
        boards.all_boards.__wrapped__()  # type: ignore[attr-defined]


def test_fast_memory_must_be_one_of_the_regions() -> None:
    table = tomllib.loads((boards_folder() / "stm32f746.toml").read_text())
    with pytest.raises(UsageError, match="itcm"):
        parse_board("mine", {**table, "fast": "itcm"})
