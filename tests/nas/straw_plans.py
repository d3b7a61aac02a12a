"""Plans and measurements of straw: every layer on a kernel that follows from its shape, at known prices."""

from __future__ import annotations

import random

from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.latency import Sample
from tinyhil.nas.meter import Measured
from tinyhil.nas.planning import Planned, PlannedLayer
from tinyhil.nas.space import Family, grid

FAMILY = Family(stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (64, 1, 1)), classes=10, channels=1)
SPACES = grid(FAMILY, (0.5, 1.0), (16, 24))
PRICES = {"gemm": 0.7, "dw x4": 0.9, "dw x2": 0.9, "portable": 1.4}


def plan(arch: Arch) -> Planned:
    """A made-up plan: every layer on a kernel that follows from its shape."""
    rows = []
    for layer in layers(arch):
        kernel = {"pointwise": "gemm", "depthwise": "dw x4" if layer.size_out.width % 4 == 0 else "dw x2"}
        count = 3 * layer.macs + 10 * layer.bytes_out
        rows.append(PlannedLayer(kernel.get(layer.kind, "portable"), count, parts=(layer,)))
    return Planned(1000, 2000, sum(layer.macs for layer in layers(arch)), tuple(rows))


def measure(arch: Arch, *, fused: bool = False) -> Measured:
    """What a machine with PRICES per planned instruction, and 50 per call, would show."""
    source = random.Random(str(arch))
    costs = tuple(
        round((PRICES[layer.kernel] * layer.instructions + 50) * source.uniform(0.99, 1.01))
        for layer in plan(arch).layers
    )
    return Measured(
        Sample(arch, sum(costs), {}), "instructions", 1100, 1000, 2500, costs[1:] if fused else costs
    )


def networks(count: int, seed: int) -> list[Arch]:
    source = random.Random(seed)
    return [source.choice(SPACES).sample(source) for _ in range(count)]
