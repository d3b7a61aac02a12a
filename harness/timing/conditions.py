"""How the chip was set up when the firmware ran: clock, wait states, caches. An estimate follows it.

What nobody reported is None, and stands for what the board's file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tinyhil.harness.boards import Board


class Report(Protocol):
    """What firmware says in its hello; None where its target has no such register."""

    @property
    def clock_hz(self) -> int | None:
        """Core clock by the clock registers."""
        ...

    @property
    def caches(self) -> int | None:
        """Bit 0 instruction cache, bit 1 data cache, bit 2 flash accelerator with all of its parts."""
        ...

    @property
    def wait_states(self) -> int | None:
        """Of the flash."""
        ...


@dataclass(frozen=True)
class Conditions:
    """Core clock in Hz, wait states of the flash, and whether the caches in front of the memories are
    on: the core's own, or the two parts of the flash accelerator."""

    clock_hz: int | None = None
    wait_states: int | None = None
    icache: bool | None = None
    dcache: bool | None = None


def conditions_of(report: Report, board: Board) -> Conditions:
    """The conditions in which firmware on `board` says it runs."""
    icache = dcache = None
    if report.caches is not None:
        own = board.icache is not None or board.dcache is not None
        icache, dcache = (bool(report.caches & bit) for bit in ((1, 2) if own else (4, 4)))
    return Conditions(report.clock_hz, report.wait_states, icache, dcache)
