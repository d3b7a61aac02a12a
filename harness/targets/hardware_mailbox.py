"""What the firmware left in RAM for a debug probe: `th_mailbox`, read when the wire is silent. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.targets.hardfault import place as code_place
from tinyhil.harness.wire import Fault

_LAYOUT = struct.Struct("<IIIiiIII9I")  # firmware_templates/runtime/mailbox.h
_MAGIC = 0x4C49_4854
SIZE = _LAYOUT.size
BOOTING, READY, RUNNING, FAULT = range(4)


@dataclass(frozen=True)
class Mailbox:
    """The firmware's state. `layer` is None if none is known, `fault` is set in state FAULT only."""

    state: int
    init_status: int
    run_status: int
    runs: int
    cycles: int
    layer: int | None
    fault: Fault | None

    @classmethod
    def decode(cls, data: bytes) -> Mailbox | None:
        """The mailbox in `SIZE` bytes of RAM; None if the firmware has not got as far as writing one."""
        magic, state, _, init, run, runs, cycles, layer, *fault = _LAYOUT.unpack(data)
        known = None if layer == 0xFFFF_FFFF else layer
        if state == FAULT:
            pc, lr, psr, sp, cfsr, hfsr, mmfar, bfar, exc_return = fault
            report = Fault(pc, lr, psr, sp, cfsr, hfsr, mmfar, bfar, exc_return, known)
            return cls(state, init, run, runs, cycles, known, report) if psr or cfsr or hfsr else None
        return cls(state, init, run, runs, cycles, known, None) if magic == _MAGIC else None

    def in_words(self, firmware: Firmware, dead: str) -> str:
        """What the probe sees, as a sentence. `dead` says what must be, if the firmware is not."""
        if self.state == RUNNING:
            layers = firmware.sources.layers
            in_layer = self.layer is not None and self.layer < len(layers)
            where = f" layer {self.layer} ({layers[self.layer or 0].name})" if in_layer else ""
            return f"the probe sees the network still running{where}"
        if self.state == FAULT:
            return "the probe sees the firmware crashed"
        return (
            f"the probe sees the firmware up and waiting, {self.runs} inferences done (the last one in "
            f"{self.cycles} cycles), so only {dead}"
        )


def not_started(firmware: Firmware, pc: int) -> str:
    """What the probe sees if there is no mailbox yet."""
    return (
        f"the probe sees that the firmware has not got through its start; the core is at "
        f"{code_place(firmware, pc)}"
    )
