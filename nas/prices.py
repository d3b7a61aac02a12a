"""TinyEngine's answer for a chain of layers: what it may run on, in figures.

The engine is asked on a network with typical weights (typical.py), because the choice among kernels depends
a little on the weights' scales. What it answers for a chain depends on nothing but its layers' shapes, the
scales of their inputs, and what lives beside them: `spots` names all of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import DType, Graph, Tensor
from tinyhil.harness.tinyengine.choose import MAX_CHAIN, PER_BYTE, lifetimes, options_of
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Kernel, Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import Program, Step, lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.paths import Option
from tinyhil.harness.tinyengine.work import Work
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.typical import skeleton

Span = tuple[int, int]  # the layers [first, after) of a network
Found = tuple[Option, ...]  # the options of a chain as if it stood at the network's beginning


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


@dataclass(frozen=True)
class Conditions:
    """What every answer depends on beside the chain: the kind of core, and the engine's options."""

    core: str
    options: Options

    @property
    def longest(self) -> int:
        """Most layers of a chain."""
        return MAX_CHAIN if "fusion" not in self.options.disabled else 1


def spots(every: Sequence[Layer]) -> list[str]:
    """One text per layer of a network, equal where the engine's answer is: its shape, what its inputs are
    quantised like (the network's own, behind ReLU6, or not), and what lives across it."""
    found = []
    source = shortcut = "input"
    before: Layer | None = None
    for layer in every:
        begins = before is None or before.block != layer.block
        if begins:
            shortcut = source
        residual = f" {'+' if begins else ''}{layer.held} {shortcut}" if layer.residual else ""
        found.append(
            f"{layer.kind} {layer.kernel}/{layer.stride} {layer.size_in}x{layer.cin} {source}"
            f" {layer.size_out}x{layer.cout}{' relu6' if layer.relu6 else ''}{residual}"
        )
        if layer.kind is not Kind.POOL:  # which keeps the parameters of its input
            source = "relu6" if layer.relu6 else "linear"
        before = layer
    return found


def spans(every: Sequence[Layer], longest: int) -> list[range]:
    """For each layer, the places behind the chains that start with it: no chain goes on where a tensor that
    an addition reads again would be lost."""
    found = []
    for first in range(len(every)):
        after = first + 1
        while after < min(first + longest, len(every)) and not (
            every[after].residual and every[after].block != every[after - 1].block
        ):
            after += 1
        found.append(range(first + 1, after + 1))
    return found


@dataclass(frozen=True)
class Priced:
    """A kernel whose candidates are figures only: each is worked out once."""

    kernel: Kernel

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel.name

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Price]:
        """The prices of the kernel's candidates."""
        return map(Price.of, self.kernel.candidates(chain, target))


class Engine:
    """Asks TinyEngine itself."""

    def __init__(self, conditions: Conditions) -> None:
        self._options = conditions.options
        self._target = Target(conditions.core)
        self._kernels = tuple(map(Priced, all_kernels(conditions.options.disabled)))
        self._works: dict[str, Work] = {}  # the engine's form of a layer, by its spot

    def __call__(self, arch: Arch, wanted: Sequence[Span]) -> list[Found]:
        """The options of some chains of `arch`, in order."""
        every = layers(arch)
        names = spots(every)
        if any(name not in self._works for name in names):
            self._learn(arch, names)
        program = outline(every, [self._works[name] for name in names])
        lives, per_byte = lifetimes(program), PER_BYTE[self._options.prefer]
        found = []
        for first, after in wanted:
            options = options_of(program, lives, first, after, self._kernels, self._target)
            found.append(tuple(option.starting_at(0) for option in undominated(options, per_byte)))
        return found

    def _learn(self, arch: Arch, names: Sequence[str]) -> None:
        """The works of layers that are not known yet, through the engine's own passes and lowering."""
        # Which channels of real weights are dead is not known: none are dropped.
        wished = replace(self._options, disabled=self._options.disabled | {"dead-channels"})
        steps = lower(optimise(skeleton(arch), wished)).steps
        assert len(steps) == len(names), f"the engine merged layers of {arch}"
        for name, step in zip(names, steps, strict=True):
            self._works.setdefault(name, step.work)


def undominated(options: Sequence[Option], per_byte: int) -> list[Option]:
    """The options of one chain that can ever be chosen, in their order, however the flash of shared code is
    split.

    Another option makes one needless if it takes no more memory and costs less even with all shared code
    charged to it that the one does not use; what both use costs both the same.
    """
    rows = []
    for place, option in enumerate(options):
        own = option.instructions + per_byte * option.candidate.flash
        rows.append((own, option.scratch, place, frozenset(option.candidate.shared.items())))
    kept: list[tuple[int, int, frozenset[tuple[str, int]]]] = []
    for own, _, place, shared in sorted(rows, key=lambda row: row[:3]):
        needless = any(
            options[other].memory <= options[place].memory
            and (other_shared <= shared or _charged(other_own, other_shared - shared, per_byte) < own)
            for other_own, other, other_shared in kept
        )
        if not needless:
            kept.append((own, place, shared))
    return [options[place] for place in sorted(place for _, place, _ in kept)]


def _charged(own: int, shared: frozenset[tuple[str, int]], per_byte: int) -> int:
    return own + per_byte * sum(size for _, size in shared)


def outline(every: Sequence[Layer], works: Sequence[Any]) -> Program:
    """The steps of a network on buffers of its sizes, without the constants; what only places buffers needs
    no works."""
    tensors = [Tensor("input", (every[0].bytes_in,), DType.INT8)]
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
