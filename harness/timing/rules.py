"""What a timing rule is: a number or a fact with the place it comes from.

The cores' files hold their rules as tables of these, so that docs/timing.md, `tinyhil explain` and a
reader find every figure together with its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

#: Short names of the sources that the rules cite.
SOURCES: Mapping[str, str] = {
    "DDI0489": "Arm Cortex-M7 Processor Technical Reference Manual, DDI 0489",
    "DDI0439": "Arm Cortex-M4 Processor Technical Reference Manual, DDI 0439, table 3-1 and 3.3",
    "jnk0le": "jnk0le/random, 'pipeline cycle test': measured with CYCCNT on STM32H743, STM32F407, RP2350",
    "quinapalus": "quinapalus.com/cm7cycles.html: measured on Cortex-M7",
    "mlperf": "MLPerf Tiny v1.1-v1.3: published firmware against its published latency (docs/timing.md)",
    "guess": "no source: chosen within what is plausible, and part of the interval",
}


@dataclass(frozen=True)
class Rule:
    """One rule: `value` in the unit that `text` states; `source` is a key of `SOURCES`."""

    text: str
    value: float
    source: str


@dataclass(frozen=True)
class Issue:
    """When one instruction of a simulated sequence issued, and what held it back.

    `cycle`: from the start of the sequence. `cycles`: how many cycles it adds; 0 for the second of a
    pair. `reason`: why it did not issue earlier, "" if nothing stood in its way.
    """

    cycle: float
    cycles: float
    reason: str


class Core(Protocol):
    """A core's pipeline: the cost of a block, given the block that ran before it."""

    name: str
    model: str
    rules: Mapping[str, Rule]

    def step_cycles(self, before: bytes, block: bytes, address: int, taken: bool) -> float:
        """Cycles that `block` (machine code at `address`) adds after `before`.

        `taken`: a branch led there; otherwise the block lies right behind. Empty `before`: unknown.
        """
        ...

    def loop_cycles(self, block: bytes, address: int) -> float:
        """Cycles per iteration of a block that branches to itself, once the pipeline is full."""
        ...

    def branch_cycles(self, block: bytes, executed: int, left_taken: int, mispredicted: int) -> float:
        """Extra cycles of the branches that end the block: mispredictions, returns, refills."""
        ...

    def trace(self, before: bytes, block: bytes, address: int, taken: bool) -> tuple[Issue, ...]:
        """The same as `step_cycles` (or, for `before` == `block`, `loop_cycles`), per instruction."""
        ...
