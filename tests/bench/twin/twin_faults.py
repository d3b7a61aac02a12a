"""Everything that can be made to go wrong with an emulated board. All off: a healthy board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Faults:
    """Read at the point of use, so a test may set one at any moment.

    `unplug_after`: the probe is gone after that many more transfers. `unplugged`: it is gone.
    `unpowered`: the chip does not answer. `debug_pins_off`: nor does it, except while nRESET is low or the
    core has not run since: firmware that uses the debug pins for something else. `probe_in_use`: somebody
    else has opened the probe.
    `device_id`: the chip is another one. `slow_counter`: CYCCNT counts one cycle of so many; 0: none.
    `rdp`: the option byte (0xAA off, 0xCC level 2, else level 1).
    `stuck_bit`: address of a byte whose lowest bit reads 1. `erase_does_nothing`, `busy_for_ever`: the
    flash controller. `silent`: nothing leaves the UART. `transmit`: changes the bytes of one frame
    (or whatever else ends in a zero byte) on their way out. `heals_at_reset`, `heals_at_power`: what ends
    the other faults.
    """

    unplug_after: int | None = None
    unplugged: bool = False
    unpowered: bool = False
    debug_pins_off: bool = False
    probe_in_use: bool = False
    device_id: int | None = None
    slow_counter: int = 1
    rdp: int = 0xAA
    stuck_bit: int | None = None
    erase_does_nothing: bool = False
    busy_for_ever: bool = False
    silent: bool = False
    transmit: Callable[[bytes], bytes] | None = None
    heals_at_reset: bool = False
    heals_at_power: bool = False

    def clear(self) -> None:
        """Back to a healthy board."""
        self.__dict__.update(Faults().__dict__)

    @property
    def rdp_level(self) -> int:
        """Readout protection: RM0385, "Read protections"."""
        return {0xAA: 0, 0xCC: 2}.get(self.rdp, 1)
