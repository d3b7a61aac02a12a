"""Executed instructions per MAC on the emulated cores, everything included: widening, requantisation,
stores, loops. `pytest -s tests/kernels/test_kernels_goals.py` prints the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kernel_bench import (
    MACHINES,
    Case,
    conv_reference,
    depthwise_reference,
    needs_arm,
    random_conv,
    random_depthwise,
    random_input,
    run_emulated,
)

from tinyhil.harness.tinyengine.asm.conv import Convolution
from tinyhil.harness.tinyengine.asm.dense import Dense
from tinyhil.harness.tinyengine.depthwise import Depthwise
from tinyhil.harness.tinyengine.kernel import Kernel, Target
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork

Maker = Callable[[np.random.Generator], ConvWork | DepthwiseWork]


@dataclass(frozen=True)
class Goal:
    """A layer of a real size, the kernel that computes it, and its goal in instructions per MAC; `held` is
    what it keeps instead where the goal has not been met."""

    name: str
    kernel: Kernel
    make: Maker
    goal: float
    held: float | None = None

    @property
    def most(self) -> float:
        """What must not be exceeded."""
        return self.held or self.goal


def _conv(size: tuple[int, int, int], channels: int, kernel: int = 1) -> Maker:
    return lambda rng: random_conv(rng, size, channels, (kernel,) * 2, pads=(kernel // 2,) * 4)


def _same(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding as TFLite's SAME has it: what is odd goes to the end."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def _depthwise(size: tuple[int, int, int], kernel: int, stride: int) -> Maker:
    rows, columns = _same(size[0], kernel, stride), _same(size[1], kernel, stride)
    return lambda rng: random_depthwise(rng, size, (kernel,) * 2, (stride,) * 2, (*rows, *columns))


def _depthwise_goals() -> list[Goal]:
    """Sizes as networks for microcontrollers have them, for each stride; of larger kernels the extremes."""
    sizes = {
        1: [(40, 40, 16), (20, 20, 48), (12, 12, 64), (10, 10, 120), (7, 7, 96), (25, 5, 64), (5, 5, 160)],
        2: [(48, 48, 16), (40, 40, 8), (24, 24, 48), (20, 20, 96), (12, 12, 96), (10, 10, 120), (6, 6, 128)],
    }
    found = []
    for kernel, goal in ((3, 2.05), (5, 1.6), (7, 1.4)):
        for stride, every in sizes.items():
            for size in every if kernel == 3 else every[::6]:
                held = 2.35 if (kernel, size) == (3, (6, 6, 128)) else None
                name = f"depthwise {kernel}x{kernel} stride {stride}, {'x'.join(map(str, size))}"
                found.append(Goal(name, Depthwise(always=True), _depthwise(size, kernel, stride), goal, held))
    return found


GOALS = (
    Goal("1x1 16->48, 40x40", Convolution(), _conv((40, 40, 16), 48), 1.27),
    Goal("1x1 24->144, 20x20", Convolution(), _conv((20, 20, 24), 144), 1.15),
    Goal("1x1 48->240, 10x10", Convolution(), _conv((10, 10, 48), 240), 1.02),
    Goal("1x1 96->480, 5x5", Convolution(), _conv((5, 5, 96), 480), 1.02),
    Goal("1x1 64->128, 12x12", Convolution(), _conv((12, 12, 64), 128), 1.02),
    Goal("1x1 64->64, 25x5", Convolution(), _conv((25, 5, 64), 64), 1.02),
    Goal("3x3 16->16, 12x12", Convolution(), _conv((12, 12, 16), 16, 3), 1.05),
    *_depthwise_goals(),
    Goal("fully connected 640->128", Dense(), _conv((1, 1, 640), 128), 1.15),
    Goal("fully connected 128->128", Dense(), _conv((1, 1, 128), 128), 1.15),
    Goal("fully connected 127->35", Dense(), _conv((1, 1, 127), 35), 1.15),
    Goal("fully connected 250->65", Dense(), _conv((1, 1, 250), 65), 1.15),
    Goal("fully connected 257->127", Dense(), _conv((1, 1, 257), 127), 1.15),
    Goal("fully connected 65->64", Dense(), _conv((1, 1, 65), 64), 1.15, held=1.16),
)


def case_of(goal: Goal, core: str) -> Case:
    """The goal's layer by its fastest candidate."""
    rng = np.random.default_rng(5)
    work = goal.make(rng)
    x = random_input(rng, work)
    reference = conv_reference(work, x) if isinstance(work, ConvWork) else depthwise_reference(work, x)
    candidate = min(goal.kernel.candidates([work], Target(core)), key=lambda c: c.instructions)
    return Case(candidate, (x,), reference, macs=work.macs)


@needs_arm
@pytest.mark.parametrize("core", MACHINES)
def test_every_class_of_layers_keeps_its_goal(core: str, tmp_path: Path) -> None:
    cases = [case_of(goal, core) for goal in GOALS]
    outcomes = run_emulated(tmp_path, cases, core)
    print(f"\n{core:36} instructions  per MAC  goal    estimated")
    for goal, case, outcome in zip(GOALS, cases, outcomes, strict=True):
        each, estimate = outcome.instructions / case.macs, case.candidate.instructions
        missed = "missed" if each > goal.goal else ""
        figures = f"{outcome.instructions:>12,}  {each:7.3f}  {goal.goal:.2f}  {estimate:>11,}"
        print(f"{goal.name:36} {figures}  {missed}")
    for goal, case, outcome in zip(GOALS, cases, outcomes, strict=True):
        assert outcome.differing == 0, goal
        assert outcome.instructions / case.macs <= goal.most, goal
        # what the planner compares is the count itself, but for the loops that GCC compiles
        assert outcome.instructions == pytest.approx(case.candidate.instructions, rel=0.06), goal
