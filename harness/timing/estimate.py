"""A trace and a board become estimated cycles: for the whole, and for each segment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder.trace import BLOCK_COLUMNS, REGION_COLUMNS, Segment, Trace
from tinyhil.harness.timing.block_costs import BlockCosts, block_costs
from tinyhil.harness.timing.conditions import Conditions
from tinyhil.harness.timing.image import Image
from tinyhil.harness.timing.interval import Doubts, interval

PARTS = ("core", "branches", "fetch", "flash", "sram", "unaligned")


@dataclass(frozen=True)
class Estimate:
    """Estimated core cycles, never a measurement.

    `low` to `high`: at least 95 % of the validation measurements lay inside theirs. `model` names
    the core's rules and the board's penalties. `parts` splits `value`: core (issue and operand
    stalls), branches (mispredictions, refills, returns), fetch (code lines), flash and sram (data
    lines), unaligned. `notes` say what is unusual about the run.
    """

    value: float
    low: float
    high: float
    model: str
    instructions: int
    parts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """The `cycles_est` of a record, in whole cycles."""
        return {
            "value": round(self.value),
            "low": int(self.low),
            "high": round(self.high + 0.5),
            "model": self.model,
        }


def _region(row: NDArray[np.int64], region: int) -> dict[str, int]:
    start = 1 + len(BLOCK_COLUMNS) + region * len(REGION_COLUMNS)
    return dict(zip(REGION_COLUMNS, row[start : start + len(REGION_COLUMNS)].tolist(), strict=True))


def estimate_segment(costs: BlockCosts, segment: Segment) -> Estimate:
    """Estimated cycles of one segment."""
    parts = dict.fromkeys(PARTS, 0.0)
    core, memory = costs.core, costs.memory
    left_taken: dict[int, int] = defaultdict(int)
    simulated: set[int] = set()
    cold = hot = 0
    floats = 0.0
    for left, entered, count in segment.edges.tolist():
        cycles = costs.steps.get((left, entered))
        if cycles is None:
            cold += count * costs.blocks[entered].instructions
            continue
        hot += count * costs.blocks[entered].instructions
        simulated |= {left, entered}
        parts["core"] += cycles * count
        floats += cycles * count * costs.floats[entered]
        if costs.blocks[entered].address != costs.blocks[left].address + len(costs.blocks[left].code):
            left_taken[left] += count
    more = 1 + cold / hot if hot else 1
    parts["core"] *= more
    floats *= more
    for place, executed, mispredicted, *_ in segment.ran.tolist():
        if place in simulated:
            code = costs.blocks[place].code
            parts["branches"] += core.branch_cycles(code, executed, left_taken[place], mispredicted)
    totals = segment.ran.sum(axis=0) if len(segment.ran) else np.zeros(segment.ran.shape[1], dtype=np.int64)
    parts["unaligned"] = float(totals[4]) * core.rules["unaligned_load"].value
    code, column = (costs.code_fetch, 1) if costs.uncached[0] else (costs.code_line, 3)
    parts["fetch"] = float((segment.ran[:, column] * code[segment.ran[:, 0]]).sum())
    for number, name in enumerate(costs.regions):
        counts = _region(totals, number)
        part = "flash" if name == "flash" else "sram"
        flash = part == "flash"
        if costs.uncached[1]:
            parts[part] += counts["accesses"] * (memory.flash_access if flash else memory.ram_access)
        else:
            line = memory.flash_line if flash else memory.ram_line
            parts[part] += (counts["load_misses"] + counts["store_misses"]) * line
    return _with_interval(parts, floats, costs, segment.instructions)


def _with_interval(
    parts: Mapping[str, float], floats: float, costs: BlockCosts, instructions: int
) -> Estimate:
    value = sum(parts.values())
    off = "".join(letter for letter, is_off in zip("ID", costs.uncached, strict=True) if is_off)
    model = f"{costs.core.model}+{costs.memory.id}" + (f":off={off}" if off else "")
    model += "" if costs.follows_data else ":nodata"
    doubts = Doubts(costs.core.name, costs.uncached, costs.memory.corrected, costs.follows_data)
    low, high = interval(parts, floats, instructions, doubts)
    return Estimate(value, low, high, model, instructions, dict(parts), costs.notes)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of segments; their errors are taken to be the same error, so intervals add up."""
    all_of = list(estimates)
    if not all_of:
        raise UsageError("there is nothing to add up: no segment matches")
    parts = {name: sum(e.parts[name] for e in all_of) for name in PARTS}
    return Estimate(
        sum(e.value for e in all_of),
        sum(e.low for e in all_of),
        sum(e.high for e in all_of),
        all_of[0].model,
        sum(e.instructions for e in all_of),
        parts,
        all_of[0].notes,
    )


@dataclass(frozen=True)
class TraceEstimate:
    """Estimates of a whole trace: one per segment, and the sum over all of them."""

    total: Estimate
    segments: tuple[tuple[Segment, Estimate], ...]

    def of(self, segments: Sequence[Segment]) -> Estimate:
        """The sum over some of the segments, such as one inference or one layer."""
        wanted = {segment.index for segment in segments}
        return total(e for segment, e in self.segments if segment.index in wanted)


def estimate(
    trace: Trace,
    board: Board,
    image: Image | None = None,
    overrides: Mapping[str, float] | None = None,
    conditions: Conditions | None = None,
) -> TraceEstimate:
    """Estimated cycles of everything in the trace on the board. Raises UsageError as `block_costs` does."""
    costs = block_costs(trace, board, image, overrides, conditions)
    rows = tuple((segment, estimate_segment(costs, segment)) for segment in trace.segments)
    return TraceEstimate(total(e for _, e in rows), rows)
