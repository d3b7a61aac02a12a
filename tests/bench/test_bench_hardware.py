"""The whole path of a real board, on an emulated one: unmodified pyOCD, pyserial, the same firmware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_network import INPUT, OUTPUT

from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardware import HardwareTarget
from tinyhil.harness.targets.target import Job

JOB = Job(((INPUT,), (OUTPUT,)), repeats=2)


def run(place: Any, firmware: Any, seconds: float = 40) -> Any:
    return HardwareTarget((place,)).run(firmware, JOB, Deadline.after(seconds))


def test_it_flashes_runs_and_reads_back(
    plug_in: Callable[..., Any], build_network: Callable[..., Any]
) -> None:
    place, board = plug_in()
    firmware = build_network()
    got = run(place, firmware)
    assert got.outputs[0] == (OUTPUT,)
    assert len(got.outputs) == 4
    assert got.hello.build_id == firmware.id
    assert (got.hello.clock_hz, got.hello.caches & 3) == (216_000_000, 3)
    assert (got.arena_touched, got.overruns) == (64, ())
    assert board.flash.erased == 1
