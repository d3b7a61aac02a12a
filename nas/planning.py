"""What the engine itself would need for an architecture: its planner's arena, its kernels' flash.

No proxy: the same passes, kernel choice and placement as for a real build, on a network with typical
weights. What a chain of layers may run on depends on nothing but the layers' shapes and on what lives
beside them, and the networks of a search share most of their chains. So the options of each chain are
asked of the engine once, and those that can never be chosen are dropped; a candidate whose chains are all
known costs one shortest path and one placement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import DType, Graph, Tensor
from tinyhil.harness.tinyengine.choose import (
    MAX_CHAIN,
    PER_BYTE,
    Option,
    choices_of,
    lifetimes,
    options_at,
)
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import Program, Step, lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.schedule import Schedule, arrange
from tinyhil.harness.tinyengine.work import Work
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.space import Need
from tinyhil.nas.typical import skeleton


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """One layer that the engine will run; fused ones count as one.

    `parts` are the architecture's layers in it. `instructions` is the engine's own count; `flash` its
    estimate of the bytes of code and constants that are the layer's own, `shared` maps files of code
    that layers may share to bytes.
    """

    kernel: str
    instructions: int
    flash: int = 0
    shared: Mapping[str, int] | None = None
    parts: tuple[Layer, ...] = ()


@dataclass(frozen=True, eq=False)
class Planned:
    """The engine's plan in figures: bytes of arena and flash, MACs, and the layers it will run."""

    arena: int
    flash: int
    macs: int
    layers: tuple[PlannedLayer, ...]


Firmware = Callable[[Planned], tuple[int, int]]  # a plan -> bytes of RAM and flash of its firmware


class EngineNeeds:
    """Asks TinyEngine's planner what networks need on `board`.

    `firmware` turns a plan into the RAM and flash of its firmware, as built networks taught
    (codesize.py); without it the plan alone is counted. `ram_extra` and `flash_extra` are bytes to be on
    the safe side.
    """

    def __init__(
        self, board: Board, options: Options | None = None, ram_extra: int = 0, flash_extra: int = 0
    ) -> None:
        self.board = board
        self.options = options or Options()
        self.ram_extra, self.flash_extra = ram_extra, flash_extra
        self.firmware: Firmware = _plan_alone
        self._plans: dict[Arch, Planned] = {}
        self._kernels = all_kernels(self.options.disabled)
        self._numbers: dict[tuple[object, ...], int] = {}  # a layer's shape and place -> a short name for it
        self._works: dict[int, Work] = {}  # the engine's form of a layer, by its short name
        self._options: dict[tuple[int, ...], tuple[Option, ...]] = {}  # layers of a chain -> its options
        self._at: dict[tuple[int, tuple[int, ...]], tuple[Option, ...]] = {}  # the same, by the first step

    def __call__(self, arch: Arch) -> Need:
        """RAM and flash in bytes, and MACs, of `arch`."""
        plan = self.plan(arch)
        ram, flash = self.firmware(plan)
        return Need(ram + self.ram_extra, flash + self.flash_extra, plan.macs)

    def plan(self, arch: Arch) -> Planned:
        """The engine's plan for `arch` in figures, worked out once."""
        if arch not in self._plans:
            every = tuple(layers(arch))
            schedule = self.schedule(arch)
            rows = []
            for layer in schedule.layers:
                price = layer.choice.candidate
                parts = tuple(every[step] for step in layer.choice.steps)
                rows.append(PlannedLayer(price.kernel, price.instructions, price.flash, price.shared, parts))
            macs = sum(layer.macs for layer in every)
            self._plans[arch] = Planned(schedule.arena, flash_of(schedule), macs, tuple(rows))
        return self._plans[arch]

    def forget_plans(self) -> None:
        """Drop the plans of whole networks; what is known of chains of layers stays."""
        self._plans.clear()

    def schedule(self, arch: Arch) -> Schedule:
        """The engine's plan for `arch`."""
        every = tuple(layers(arch))
        names = [self._number(layer, before) for layer, before in zip(every, (None, *every), strict=False)]
        if any(name not in self._works for name in names):
            self._learn(arch, names)
        program = _outline(arch, every, [self._works[name] for name in names])
        budget = 1 << 40 if self.board.is_native else self.board.ram.size
        choices = choices_of(self._table(program, names), self.options.prefer, budget)
        return arrange(program, choices[0], "overlap" not in self.options.disabled)

    def _table(self, program: Program, names: Sequence[int]) -> list[tuple[Option, ...]]:
        """The options of each layer; unknown chains are asked of the engine."""
        keys = [tuple(names[first : first + MAX_CHAIN]) for first in range(len(names))]
        if any(key not in self._options for key in keys):
            self._ask(program, keys)
        return [self._placed(first, key) for first, key in enumerate(keys)]

    def _placed(self, first: int, key: tuple[int, ...]) -> tuple[Option, ...]:
        """The options of a known chain where it starts at step `first`."""
        if (first, key) not in self._at:
            self._at[first, key] = tuple(
                replace(option, first=first, after=first + option.after) for option in self._options[key]
            )
        return self._at[first, key]

    def _number(self, layer: Layer, before: Layer | None) -> int:
        """A short name for all that the engine's answer depends on: the layer, its input's quantisation
        (behind ReLU6 or not, or the network's own), and what lives across it."""
        source = None if before is None else before.relu6
        begins = before is None or before.block != layer.block
        key = (
            layer.kind, layer.kernel, layer.stride, layer.cin, layer.cout, layer.size_in, layer.size_out,
            layer.relu6, layer.residual, begins, source,
        )  # fmt: skip
        return self._numbers.setdefault(key, len(self._numbers))

    def _learn(self, arch: Arch, names: Sequence[int]) -> None:
        """The works of layers that are not known yet, through the engine's own passes and lowering."""
        # Which channels of real weights are dead is not known: none are dropped.
        wished = replace(self.options, disabled=self.options.disabled | {"dead-channels"})
        steps = lower(optimise(skeleton(arch), wished)).steps
        assert len(steps) == len(names), f"the engine merged layers of {arch}"
        for name, step in zip(names, steps, strict=True):
            self._works.setdefault(name, step.work)

    def _ask(self, program: Program, keys: Sequence[tuple[int, ...]]) -> None:
        lives, target = lifetimes(program), Target(self.board.core)
        longest = MAX_CHAIN if "fusion" not in self.options.disabled else 1
        for first, key in enumerate(keys):
            if key in self._options:
                continue
            found = options_at(program, lives, first, self._kernels, target, longest)
            self._options[key] = tuple(
                replace(option, first=0, after=option.after - first, candidate=Price.of(option.candidate))
                for option in undominated(found, PER_BYTE[self.options.prefer])
            )


def _plan_alone(plan: Planned) -> tuple[int, int]:
    return plan.arena, plan.flash


def undominated(options: Sequence[Option], per_byte: int) -> list[Option]:
    """The options that can ever be chosen, in their order, however the flash of shared code is split.

    Another option of the same length makes one needless if it takes no more memory and costs less even
    with all shared code charged to it that the one does not use; what both use costs both the same.
    """
    rows = []
    for place, option in enumerate(options):
        own = option.instructions + per_byte * option.candidate.flash
        rows.append((own, option.scratch, place, frozenset(option.candidate.shared.items())))
    kept: list[tuple[int, int, frozenset[tuple[str, int]]]] = []
    for own, _, place, shared in sorted(rows, key=lambda row: row[:3]):
        option = options[place]
        needless = any(
            options[other].after == option.after
            and options[other].memory <= option.memory
            and (other_shared <= shared or _charged(other_own, other_shared - shared, per_byte) < own)
            for other_own, other, other_shared in kept
        )
        if not needless:
            kept.append((own, place, shared))
    return [options[place] for place in sorted(place for _, place, _ in kept)]


def _charged(own: int, shared: frozenset[tuple[str, int]], per_byte: int) -> int:
    return own + per_byte * sum(size for _, size in shared)


def _outline(arch: Arch, every: Sequence[Layer], works: Sequence[Work]) -> Program:
    """The steps of `arch` on buffers of its sizes, without the constants."""
    tensors = [Tensor("input", (arch.resolution.area, arch.channels), DType.INT8)]
    steps = []
    shortcut = 0
    for at, (layer, work) in enumerate(zip(every, works, strict=True)):
        if at == 0 or layer.block != every[at - 1].block:
            shortcut = at
        inputs = (at, shortcut) if layer.kind is Kind.ADD else (at,)
        tensors.append(Tensor(layer.name, (layer.bytes_out,), DType.INT8))
        steps.append(Step(at, layer.kind, layer.name, work, inputs, at + 1, layer.macs))
    graph = Graph("outline", tuple(tensors), (), (0,), (len(every),))
    return Program(graph, tuple(steps), {tensor: tensor for tensor in range(len(tensors))})


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
