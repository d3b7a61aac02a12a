"""How far an estimate can be off: the interval around it. It means coverage, see docs/timing.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: Half-width of the interval as parts of each kind of cycles, added as if independent. The meaning is
#: coverage: on the validation rows of docs/timing.md at least 95 % of the measurements lie inside.
SPREAD: Mapping[str, Mapping[str, float]] = {
    "cortex-m7": {
        "core": 0.04,
        "branches": 0.20,
        "fetch": 0.30,
        "flash": 0.20,
        "sram": 0.40,
        "unaligned": 0.30,
    },
    "cortex-m4": {
        "core": 0.05,
        "branches": 0.15,
        "fetch": 0.50,
        "flash": 0.20,
        "sram": 0.40,
        "unaligned": 0.50,
    },
}
#: The fewest cycles per instruction among the validation rows. Firmware that the model takes to be
#: faster gets half of the distance added to the upper end: nothing yet showed that it can be.
SEEN_CPI: Mapping[str, float] = {"cortex-m7": 0.72, "cortex-m4": 1.19}
#: ... and of the core's cycles that single- and double-precision code takes, besides. Its rules are from
#: measurements of single instructions; of three rows of firmware that uses it, one is 10 % off.
SPREAD_FLOAT = 0.20
#: With a cache off: the half-width of the waits, added up as if they erred together. Nothing but two
#: published ratios stands behind these penalties (docs/timing.md).
SPREAD_UNCACHED = 0.45
#: Half of what a rule adds for other wait states than the validated ones is taken to be uncertain.
SPREAD_CORRECTED = 0.5
#: A trace that does not follow data lacks the waits for it. They are at most a third of the cycles in the
#: validation rows and in tinyhil's own networks; the upper end allows for half.
DATA_UNKNOWN = 2.0


@dataclass(frozen=True)
class Doubts:
    """What besides the parts decides on the width.

    `uncached`: instruction cache off, data cache off. `corrected`: the part of the flash penalty that a
    rule added for other wait states. `follows_data`: the trace has data accesses.
    """

    core: str
    uncached: tuple[bool, bool]
    corrected: float
    follows_data: bool


def interval(
    parts: Mapping[str, float], floats: float, instructions: int, doubts: Doubts
) -> tuple[float, float]:
    """Low and high, in cycles, of an estimate that is the sum of `parts`; `floats`: the core's cycles
    that use the FPU."""
    value = sum(parts.values())
    instructions_off, data_off = doubts.uncached
    uncached = {"fetch": instructions_off, "flash": data_off, "sram": data_off}
    waits = SPREAD_UNCACHED * sum(parts[name] for name, is_off in uncached.items() if is_off)
    spread = dict(SPREAD[doubts.core])
    rule = SPREAD_CORRECTED * doubts.corrected
    spread |= {name: float(np.hypot(spread[name], rule)) for name in ("fetch", "flash")}
    independent = [spread[name] * cycles for name, cycles in parts.items() if not uncached.get(name)]
    half = waits + float(np.linalg.norm([*independent, SPREAD_FLOAT * floats]))
    faster = instructions * SEEN_CPI[doubts.core] / value - 1 if value else 0.0
    high = value + half + 0.5 * value * max(0.0, faster)
    return value - half, high if doubts.follows_data else high * DATA_UNKNOWN
