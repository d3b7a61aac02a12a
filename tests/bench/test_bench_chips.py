"""Chips that pyOCD knows, flashed by its own targets and flash algorithms; and what differs between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from small_network import INPUT, OUTPUT

from tinyhil.harness.boards import get_board
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardware import HardwareTarget
from tinyhil.harness.targets.pyocd_chip import Segment, connected
from tinyhil.harness.targets.target import Job

Plug = Callable[..., Any]
JOB = Job(((INPUT,), (OUTPUT,)), repeats=2)


@pytest.mark.parametrize(
    ("kind", "clock_hz", "set_up"),
    [
        ("stm32f767", 216_000_000, {"caches": "I D", "wait_states": "7", "cpuid": "0x411fc271"}),
        ("stm32f429", 180_000_000, {"caches": "", "wait_states": "5", "cpuid": "0x410fc241"}),
    ],
)
def test_it_flashes_runs_and_is_bit_exact(
    kind: str, clock_hz: int, set_up: dict[str, str], plug_in: Plug, build_network: Plug
) -> None:
    place, board = plug_in("T7", kind=kind)
    firmware = build_network(board=kind)
    got = HardwareTarget((place,)).run(firmware, JOB, Deadline.after(60))
    assert (got.outputs[0], len(got.outputs), got.overruns) == ((OUTPUT,), 4, ())
    assert (got.hello.build_id, got.hello.clock_hz) == (firmware.id, clock_hz)
    assert (got.provenance["flashed"], board.flash.erased) == ("true", 1)
    assert got.hello.conditions().items() >= {**set_up, "accelerator": "on"}.items()
    assert board.peripherals.core_clock() == clock_hz
    assert board.peripherals.over_drive  # neither clock is allowed without
    assert board.peripherals.baud() == pytest.approx(firmware.board.extra["serial"]["baud"], rel=0.01)


def test_the_f429s_second_bank_has_sectors_of_its_own(plug_in: Plug) -> None:
    """pyOCD's algorithm names them by bank and number. What is beside them stays."""
    place, board = plug_in(kind="stm32f429")
    last, sector, after = 0x080F_FFFC, 0x0811_0000, 0x0812_0000  # the 64 KB sector of the second bank
    for address in (last, sector - 4, sector, after):
        board.poke(address, b"old!")
    with connected(place, get_board("stm32f429"), Deadline.after(60)) as chip:
        chip.flash((Segment(sector + 0x100, b"new!"),), Deadline.after(60))
        found = [chip.read(address, 4) for address in (last, sector - 4, sector, sector + 0x100, after)]
    assert found == [b"old!", b"old!", b"\xff" * 4, b"new!", b"old!"]
    assert board.flash.erased == 1


@pytest.mark.parametrize("kind", ["stm32f746", "stm32f429"])
@pytest.mark.parametrize("after", [2, 4])
def test_a_breakpoint_stops_either_version_of_the_unit(kind: str, after: int, plug_in: Plug) -> None:
    """Version 1 (Cortex-M4) names the half of a word, version 2 (Cortex-M7) an address."""
    place, board = plug_in(kind=kind)
    code = 0x0800_0100
    board.poke(0x0800_0000, (0x2000_1000).to_bytes(4, "little") + (code | 1).to_bytes(4, "little"))
    board.poke(code, b"\x00\xbf" * 4 + b"\xfe\xe7")  # nop, four times; b .
    with connected(place, get_board(kind), Deadline.after(60)) as chip:
        target = chip._target
        target.reset_and_halt()
        target.set_breakpoint(code + after)
        target.resume()
        patience = Deadline.after(30)
        while not target.is_halted() and not patience.expired:
            time.sleep(0.001)
        assert target.is_halted()
        assert target.read_core_register("pc") == code + after
        target.remove_breakpoint(code + after)
