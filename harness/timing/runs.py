"""Estimates of one job: each inference, and each of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.targets.counts import marks_of, split_runs
from tinyhil.harness.targets.recorder import Segment, Trace
from tinyhil.harness.timing.block_costs import block_costs
from tinyhil.harness.timing.conditions import Conditions
from tinyhil.harness.timing.decode import is_cut
from tinyhil.harness.timing.estimate import Estimate, estimate_segment, total
from tinyhil.harness.timing.image import load_elf


@dataclass(frozen=True)
class RunEstimate:
    """Estimated cycles of one inference, and of each layer (None for a layer never entered)."""

    whole: Estimate
    layers: tuple[Estimate | None, ...]


def estimate_runs(
    trace: Trace, firmware: Firmware, wanted: Sequence[int], conditions: Conditions | None = None
) -> list[RunEstimate]:
    """Estimates of the inferences with the indices `wanted`, in that order, in the `conditions` that the
    firmware reported. Raises UsageError as `block_costs` does."""
    cut = any(is_cut(block.code) for block in trace.blocks)
    image = load_elf(firmware.elf) if cut else None
    costs = block_costs(trace, firmware.board, image, conditions=conditions)
    runs = split_runs(trace.segments, marks_of(firmware))
    found = []
    for index in wanted:
        by_segment = {s.index: estimate_segment(costs, s) for s in runs[index].segments}

        def of(segments: tuple[Segment, ...], known: dict[int, Estimate] = by_segment) -> Estimate | None:
            return total(known[s.index] for s in segments) if segments else None

        found.append(RunEstimate(total(by_segment.values()), tuple(map(of, runs[index].layers))))
    return found
