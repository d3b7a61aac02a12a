"""The whole path of a real board, on an emulated one: unmodified pyOCD, pyserial, the board's firmware."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_pack import TARGET, make_pack
from small_network import INPUT, OUTPUT

from tinyhil.errors import BenchError, BuildError, UsageError, WrongBoard
from tinyhil.harness.bench.map import Place
from tinyhil.harness.bench.port import find_port
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardware import HardwareTarget
from tinyhil.harness.targets.hardware_conditions import check_clock
from tinyhil.harness.targets.hardware_mailbox import SIZE, Mailbox
from tinyhil.harness.targets.pyocd_chip import connected, flash_segments
from tinyhil.harness.targets.target import Job

JOB = Job(((INPUT,), (OUTPUT,)), repeats=2)
Plug = Callable[..., Any]


def run(place: Place, firmware: Any, job: Job = JOB) -> Any:
    return HardwareTarget((place,)).run(firmware, job, Deadline.after(60))


def test_it_flashes_runs_and_reads_back(plug_in: Plug, build_network: Plug) -> None:
    place, board = plug_in()
    firmware = build_network()
    got = run(place, firmware)
    assert got.outputs[0] == (OUTPUT,)
    assert len(got.outputs) == 4
    assert got.hello.build_id == firmware.id
    assert (got.hello.clock_hz, got.hello.caches & 3) == (216_000_000, 3)
    assert (got.arena_touched, got.overruns) == (64, ())
    assert board.flash.erased == 1
    assert 0 < got.stack_touched < 1024


def test_the_firmware_sets_clock_and_baud_rate_as_the_board_file_says(
    plug_in: Plug, build_network: Plug
) -> None:
    place, board = plug_in()
    firmware = build_network()
    run(place, firmware)
    assert board.peripherals.core_clock() == firmware.board.clock_hz
    assert board.peripherals.baud() == pytest.approx(firmware.board.extra["serial"]["baud"], rel=0.01)


def test_flash_is_left_alone_if_it_holds_the_firmware_already(plug_in: Plug, build_network: Plug) -> None:
    place, board = plug_in()
    assert run(place, build_network()).provenance["flashed"] == "true"
    erased, stored = board.flash.erased, board.flash.stored
    assert run(place, build_network()).provenance["flashed"] == "false"
    assert (board.flash.erased, board.flash.stored) == (erased, stored)


def test_one_wrong_byte_behind_the_right_build_id_is_found_and_flashed_over(
    plug_in: Plug, build_network: Plug
) -> None:
    place, board = plug_in()
    firmware = build_network()
    run(place, firmware)
    last = flash_segments(firmware.elf)[0]
    board.poke(last.address + len(last.data) - 1, bytes([last.data[-1] ^ 1]))
    got = run(place, firmware)
    assert (got.outputs[0], got.provenance["flashed"]) == ((OUTPUT,), "true")


def test_an_emulated_boards_counter_is_not_passed_on_as_cycles(plug_in: Plug, build_network: Plug) -> None:
    place, board = plug_in()
    got = run(place, build_network())
    assert board.read(0xE000_1004)[0] > 0  # there is something that could be mistaken
    assert (got.mode, got.cycles, got.layers) == ("unicorn", None, ())
    assert HardwareTarget((place,)).mode == "unicorn"


def test_a_map_that_calls_an_emulated_board_real_is_refused(plug_in: Plug, build_network: Plug) -> None:
    place, _ = plug_in()
    with pytest.raises(WrongBoard, match="emulated"):
        run(replace(place, emulated=False), build_network())


def test_a_part_of_a_probes_id_is_not_its_id(plug_in: Plug, build_network: Plug) -> None:
    place, _ = plug_in("T12")
    with pytest.raises(BenchError, match="no debug probe with id T1 is connected"):
        run(replace(place, probe="T1"), build_network())


def test_firmware_for_an_emulator_is_refused(plug_in: Plug, build_network: Plug) -> None:
    place, _ = plug_in()
    with pytest.raises(UsageError, match="built for an emulator"):
        run(place, replace(build_network(), emulated=True))


def test_what_is_no_elf_cannot_be_flashed(tmp_path: Path) -> None:
    (tmp_path / "x.elf").write_bytes(b"not an ELF")
    with pytest.raises(BuildError, match=r"x\.elf cannot be flashed"):
        flash_segments(tmp_path / "x.elf")


def test_connecting_changes_neither_the_folder_nor_reads_scripts_in_it(
    plug_in: Plug, build_network: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyocd_user.py").write_text("raise SystemExit('a script of the current folder was run')")
    (tmp_path / "pyocd.yaml").write_text("target_override: lpc1768\n")
    place, _ = plug_in()
    with connected(place, build_network().board, Deadline.after(20)) as chip:
        assert chip.read_word(0xE004_2000) & 0xFFF == 0x449
    assert Path.cwd() == tmp_path


def test_a_port_is_found_by_the_full_usb_serial_number_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    def port(device: str, number: str | None) -> ListPortInfo:
        info = ListPortInfo(device, skip_link_detection=True)
        info.serial_number = number
        return info

    ports = [port("/dev/ttyACM1", "066BFF2"), port("/dev/ttyACM0", "066BFF"), port("/dev/ttyS0", None)]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert find_port(Place("a", "k", "066BFF")) == "/dev/ttyACM0"
    assert find_port(Place("a", "k", "X", "usb:066BFF2")) == "/dev/ttyACM1"
    assert find_port(Place("a", "k", "066BFF", "COM3")) == "COM3"
    with pytest.raises(BenchError, match=r"066B; there are: /dev/ttyACM1 \(066BFF2\)"):
        find_port(Place("a", "k", "066B"))


def set_up_with(board: Board, **hal: int) -> Board:
    """`board` with other values for its hardware layer."""
    return replace(board, extra={**board.extra, "hal": {**board.extra["hal"], **hal}})


@pytest.mark.parametrize(
    ("hal", "words"),
    [
        ({"flash_wait_states": 9}, "with 9 wait states, not with 7"),
        ({"pll_n": 216}, "runs at 108000000 Hz by its clock registers, not at 216000000"),
    ],
)
def test_firmware_that_sets_up_other_conditions_is_found_out_by_the_chips_registers(
    hal: dict[str, int], words: str, plug_in: Plug, build_network: Plug
) -> None:
    place, board = plug_in()
    firmware = build_network(board=set_up_with(get_board("stm32f746"), **hal))
    with pytest.raises(BenchError, match=words):
        run(place, replace(firmware, board=get_board("stm32f746")))
    assert board.resets < 5  # no recovery is tried: none would mend it


@pytest.mark.parametrize("slow", [0, 2])
def test_a_cycle_counter_that_does_not_keep_up_with_systick_is_not_trusted(
    slow: int, plug_in: Plug, build_network: Plug
) -> None:
    place, board = plug_in()
    board.faults.slow_counter = slow
    with pytest.raises(BenchError, match=r"counted \d+ cycles while SysTick.*no cycle count can be trusted"):
        run(place, build_network())


def test_the_conditions_come_from_the_chip_and_into_the_record(plug_in: Plug, build_network: Plug) -> None:
    place, _ = plug_in()
    said = run(place, build_network()).hello.conditions()
    cycles, ticks = re.fullmatch(r"(\d+) cycles in (\d+) SysTick ticks", said.pop("counters")).groups()  # type: ignore[union-attr]
    assert int(cycles) == pytest.approx(int(ticks), rel=0.01)
    assert int(ticks) > 2000
    assert said == {"caches": "I D", "accelerator": "on", "wait_states": "7", "cpuid": "0x411fc271"}


@pytest.mark.parametrize("kind", ["stm32f746", "stm32f767"])
def test_a_board_without_a_serial_port_is_talked_to_through_its_probe(
    kind: str, plug_in: Plug, build_network: Plug
) -> None:
    place, _ = plug_in(kind=kind, serial="/dev/there-is-none", transport="rtt")
    firmware = build_network(board=kind)
    got = run(place, firmware)
    twice = bytes(2 * value & 255 for value in reversed(OUTPUT))
    assert got.outputs == ((OUTPUT,), (OUTPUT,), (twice,), (twice,))
    assert got.provenance["transport"] == "rtt"


def in_mode(board: Board, mode: str) -> Board:
    """`board` with another connect mode."""
    return replace(board, extra={**board.extra, "pyocd": {**board.extra["pyocd"], "connect_mode": mode}})


def test_a_chip_whose_firmware_has_taken_the_debug_pins_is_caught_under_reset(
    plug_in: Plug, build_network: Plug
) -> None:
    """As on an H743 or L4R5: the probe holds nRESET low while it connects."""
    place, board = plug_in()
    firmware = build_network()
    run(place, firmware)  # something runs there
    board.faults.debug_pins_off = True
    with (
        pytest.raises(BenchError, match="no chip answers"),
        connected(place, firmware.board, Deadline.after(20)),
    ):
        pass
    opened = board.resets
    with connected(place, in_mode(firmware.board, "under-reset"), Deadline.after(20)) as chip:
        assert chip.read_word(0xE004_2000) & 0xFFF == 0x449
        assert board.resets > opened
        assert not board.has_run
        board.faults.debug_pins_off = False


@pytest.mark.parametrize("mode", ["halt", "pre-reset", "under-reset", "attach"])
def test_every_connect_mode_of_pyocd_leads_to_a_measurement(
    mode: str, plug_in: Plug, build_network: Plug
) -> None:
    place, _ = plug_in()
    firmware = replace(build_network(), board=in_mode(get_board("stm32f746"), mode))
    assert run(place, firmware).outputs[0] == (OUTPUT,)


def test_the_board_file_and_the_map_say_what_pyocd_is_told(tmp_path: Path) -> None:
    from tinyhil.harness.targets.pyocd_chip import _options

    place = Place("b", "stm32h743", "P", pack=str(tmp_path / "x.pack"), target="stm32h743zitx")
    told = _options(place, get_board("stm32h743"), Deadline.after(60))
    assert (told["connect_mode"], told["pack"]) == ("under-reset", str(tmp_path / "x.pack"))
    assert (told["target_override"], told["auto_unlock"]) == ("stm32h743zitx", False)
    assert (
        _options(replace(place, target=""), get_board("stm32h743"), Deadline.after(60))["target_override"]
        == "stm32h743xx"
    )
    assert get_board("nucleo-l4r5zi").extra["pyocd"]["connect_mode"] == "under-reset"


def test_a_cmsis_pack_of_the_users_flashes_instead_of_what_is_built_in(
    plug_in: Plug, build_network: Plug, tmp_path: Path
) -> None:
    """No other target is called so: all that pyOCD knows of this chip is in the pack."""
    place, board = plug_in(pack=str(make_pack(tmp_path)), target=TARGET)
    got = run(place, build_network())
    assert (got.outputs[0], got.provenance["flashed"], board.flash.erased) == ((OUTPUT,), "true", 1)


def test_a_pack_that_is_missing_is_told(plug_in: Plug, build_network: Plug, tmp_path: Path) -> None:
    place, _ = plug_in(pack=str(tmp_path / "none.pack"), target=TARGET)
    with pytest.raises(BenchError, match=r"none\.pack"):
        run(place, build_network())


class Counter:
    """A chip whose cycle counter follows the host's clock at `hz`."""

    def __init__(self, hz: float, start: int) -> None:
        self.hz, self.start = hz, start

    def read_word(self, address: int) -> int:
        import time

        return (self.start + round(time.monotonic() * self.hz)) & 0xFFFF_FFFF


@pytest.mark.parametrize("start", [0, 0xFFFF_0000])
def test_the_core_clock_is_measured_against_the_hosts(start: int) -> None:
    board = replace(get_board("stm32f746"), clock_hz=1_000_000)
    assert check_clock(Counter(1e6, start), board) == pytest.approx(1e6, rel=0.03)
    with pytest.raises(BenchError, match="by the host's clock"):
        check_clock(Counter(2e6, start), board)


def mailbox(state: int, magic: int = 0x4C49_4854, layer: int = 0xFFFF_FFFF, psr: int = 0) -> Mailbox | None:
    data = struct.pack("<IIIiiIII9I", magic, state, 0, 0, 0, 3, 1234, layer, 0, 0, psr, 0, 0, 0, 0, 0, 0)
    assert len(data) == SIZE
    return Mailbox.decode(data)


def test_the_mailbox_tells_a_dead_cable_from_a_hanging_network(build_network: Plug) -> None:
    firmware = build_network()
    ready, running = mailbox(1), mailbox(2, layer=1)
    assert ready is not None
    assert running is not None
    assert "3 inferences done (the last one in 1234 cycles), so only the line is dead" in ready.in_words(
        firmware, "the line is dead"
    )
    assert "still running layer 1 (reverse)" in running.in_words(firmware, "")


def test_memory_that_holds_no_mailbox_is_none() -> None:
    assert mailbox(1, magic=0xA5A5_A5A5) is None
    assert mailbox(3, magic=0) is None
    crashed = mailbox(3, magic=0, psr=0x0100_0000)  # a crash while booting
    assert crashed is not None
    assert crashed.fault is not None
