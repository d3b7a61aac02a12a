"""A schedule as text: which kernel runs what, where its time goes, what lies where in the arena."""

from __future__ import annotations

from dataclasses import asdict

from tinyhil.harness.engine import Buffer
from tinyhil.harness.tinyengine.planner import Placement
from tinyhil.harness.tinyengine.schedule import Schedule

_COLUMNS = 64


def plan_lines(schedule: Schedule) -> list[str]:
    """The layers, the arena over the layers as a picture, and how good the plan is."""
    program, placement = schedule.program, schedule.placement
    lines = [f"{'':>3} {'kernel':<22}{'instructions':>13}{'/MAC':>7}{'scratch':>9}{'alive':>9}  layer"]
    for position, layer in enumerate(schedule.layers):
        candidate = layer.choice.candidate
        steps = [program.steps[i] for i in layer.choice.steps]
        macs = sum(step.macs for step in steps)
        per_mac = f"{candidate.instructions / macs:.2f}" if macs else ""
        alive = sum(b.size for b in schedule.buffers if b.first <= position <= b.last)
        lines.append(
            f"{position:>3} {candidate.kernel:<22}{candidate.instructions:>13,}{per_mac:>7}"
            f"{candidate.scratch:>9,}{alive:>9,}  {' + '.join(step.label for step in steps)}"
        )
    return [
        *lines,
        "",
        f"{schedule.instructions:,} instructions (estimated); arena {schedule.arena:,} B, {proof(placement)}",
        "",
        *picture(schedule),
    ]


def proof(placement: Placement) -> str:
    """What is known of the smallest arena for the chosen kernels."""
    if placement.optimal:
        return "proven optimal for these layers"
    gap = (placement.arena - placement.lower_bound) / placement.lower_bound
    return f"no plan of these layers can be below {placement.lower_bound:,} B (gap {gap:.2%})"


def plan_record(schedule: Schedule) -> dict[str, object]:
    """The plan as data for JSON: bytes, estimated instructions, layers and buffers in order."""
    steps, placement = schedule.program.steps, schedule.placement
    layers = []
    for position, layer in enumerate(schedule.layers):
        candidate = layer.choice.candidate
        layers.append(
            {
                "kernel": candidate.kernel,
                "operators": [steps[i].label for i in layer.choice.steps],
                "instructions_estimated": candidate.instructions,
                "scratch": candidate.scratch,
                "flash_estimated": candidate.flash,
                "alive": sum(b.size for b in schedule.buffers if b.first <= position <= b.last),
            }
        )
    return {
        "network": schedule.program.graph.name,
        "arena": placement.arena,
        "lower_bound": placement.lower_bound,
        "optimal": placement.optimal,
        "tensors": sum(b.role != "scratch" for b in schedule.buffers),
        "instructions_estimated": schedule.instructions,
        "layers": layers,
        "buffers": [asdict(b) for b in schedule.buffers],
    }


def picture(schedule: Schedule) -> list[str]:
    """One line per layer, addresses from left to right: i input, o output, = activation, s scratch,
    # where an output grows over a dying input."""
    marks = {"input": "i", "output": "o", "activation": "=", "scratch": "s"}
    width = max(schedule.arena, 1)

    def columns(b: Buffer) -> range:
        return range(b.offset * _COLUMNS // width, max(1, -(-(b.offset + b.size) * _COLUMNS // width)))

    lines = [f"    0{' ' * (_COLUMNS - 2)}{schedule.arena:,} B"]
    for position in range(len(schedule.layers)):
        row = [" "] * _COLUMNS
        for b in schedule.buffers:
            if b.first <= position <= b.last:
                for c in columns(b):
                    row[c] = marks[b.role] if row[c] == " " else "#"
        lines.append(f"{position:>3} |{''.join(row)}|")
    return lines
