"""What the engine itself would need for an architecture: its planner's arena, its kernels' flash.

No proxy: the same passes, kernel choice and placement as for a real build, on a graph without
weights. What a kernel costs depends on its layer's shape alone, and the networks of a search share
most of their shapes, so each is priced once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.harness.tinyengine.choose import choose
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Kernel, Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.schedule import Schedule, arrange
from tinyhil.harness.tinyengine.work import Work
from tinyhil.nas.arch import Arch
from tinyhil.nas.quantize import skeleton
from tinyhil.nas.space import Need


@dataclass(frozen=True)
class Price:
    """The figures of one candidate, without its code."""

    kernel: str
    scratch: int
    flash: int
    shared: Mapping[str, int]
    instructions: int
    gaps: tuple[int | None, ...]

    @classmethod
    def of(cls, candidate: Candidate) -> Price:
        """What `candidate` says of itself."""
        return cls(
            candidate.kernel, candidate.scratch, candidate.flash, dict(candidate.shared),
            candidate.instructions, candidate.gaps,
        )  # fmt: skip

    def emit(self, symbol: str) -> Code:
        """A price has no code: plan the real graph to get it."""
        raise TypeError(f"{symbol}: a plan without weights cannot be turned into code")


class Remembered:
    """A kernel whose prices are looked up by the shapes of the works."""

    def __init__(self, kernel: Kernel, keys: dict[int, Any]) -> None:
        self.kernel = kernel
        self._keys = keys  # id of a work of the graph being planned -> its shape, shared by all kernels
        self._prices: dict[Any, tuple[Price, ...]] = {}

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return self.kernel.name

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """The kernel's candidates for `chain`, asked once per shape."""
        for work in chain:
            if id(work) not in self._keys:
                self._keys[id(work)] = shape_of(work)
        key = (target, tuple(self._keys[id(work)] for work in chain))
        if key not in self._prices:
            self._prices[key] = tuple(map(Price.of, self.kernel.candidates(chain, target)))
        return self._prices[key]


def shape_of(value: Any) -> Any:
    """All of a work but the contents of its arrays, as something hashable."""
    if isinstance(value, np.ndarray):
        return value.shape
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(shape_of(getattr(value, field.name)) for field in fields(value)))
    return value


@dataclass(frozen=True)
class Planned:
    """The engine's plan in figures: bytes of arena and flash, MACs, and for each layer that it will
    run (fused ones count as one) the kernel and the engine's own count of instructions."""

    arena: int
    flash: int
    macs: int
    layers: tuple[tuple[str, int], ...]


class EngineNeeds:
    """Asks TinyEngine's planner what networks need on `board`.

    `ram_extra` and `flash_extra` are bytes that every firmware has beside the plan (stack and static
    data; start-up code and runtime), as measured on built networks; 0 counts the plan alone.
    """

    def __init__(
        self, board: Board, options: Options | None = None, ram_extra: int = 0, flash_extra: int = 0
    ) -> None:
        self.board = board
        self.options = options or Options()
        self.ram_extra, self.flash_extra = ram_extra, flash_extra
        self._plans: dict[Arch, Planned] = {}
        self._keys: dict[int, Any] = {}
        self._kernels = tuple(Remembered(kernel, self._keys) for kernel in all_kernels(self.options.disabled))

    def __call__(self, arch: Arch) -> Need:
        """RAM and flash in bytes, and MACs, of `arch`."""
        plan = self.plan(arch)
        return Need(plan.arena + self.ram_extra, plan.flash + self.flash_extra, plan.macs)

    def plan(self, arch: Arch) -> Planned:
        """The engine's plan for `arch` in figures, worked out once."""
        if arch not in self._plans:
            schedule = self.schedule(arch)
            candidates = [layer.choice.candidate for layer in schedule.layers]
            self._plans[arch] = Planned(
                schedule.arena,
                flash_of(schedule),
                sum(step.macs for step in schedule.program.steps),
                tuple((candidate.kernel, candidate.instructions) for candidate in candidates),
            )
        return self._plans[arch]

    def schedule(self, arch: Arch) -> Schedule:
        """The engine's plan for `arch`."""
        self._keys.clear()  # ids are those of living objects only
        program = lower(optimise(skeleton(arch), self.options))
        budget = 1 << 40 if self.board.is_native else self.board.ram.size
        choices = choose(program, self._kernels, Target(self.board.core), self.options.prefer, budget)
        return arrange(program, choices, "overlap" not in self.options.disabled)


def flash_of(schedule: Schedule) -> int:
    """Bytes of code and constants of the plan; helpers that layers share count once."""
    candidates = [layer.choice.candidate for layer in schedule.layers]
    shared: dict[str, int] = {}
    for candidate in candidates:
        shared.update(candidate.shared)
    return sum(candidate.flash for candidate in candidates) + sum(shared.values())


def family(kernel: str) -> str:
    """The kernel's name without the size of its tile: `conv+dw x8` is of the family `conv+dw`."""
    return kernel.rpartition(" x")[0] or kernel
