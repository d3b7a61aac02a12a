"""Bytes of code, learned from firmware that was built: the part of flash and stack that no plan knows.

Of a layer's flash the engine knows weights and constants to the byte, and its assembler to a few; what GCC
makes of the C around them it estimates. So each network that is built for a measurement also teaches what
its functions took: a helper by its name (equal names are equal code), a layer's own function by its kind,
and the loops of a block by what they do and call (`_block_row`). What was never built is corrected by the
mean of its family.

A stack is as deep as its deepest layer: no kind of layer is deeper than the shallowest network it was in.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinyhil.nas.planning import Planned, PlannedLayer, family

WRAPPER = 60  # a helper of fewer bytes only passes sizes to shared code, from a table beside it


@dataclass(frozen=True)
class Built:
    """What the linker made of one network, in bytes: helper functions by name; per layer, how many
    operators are in it and its own function and data; the stack that was touched, and the static RAM.
    `loops` names the helper with the loops of each layer, "" where it has none."""

    helpers: Mapping[str, int]
    own: tuple[tuple[int, int], ...]
    stack: int
    static: int
    loops: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeSizes:
    """What built networks taught; `predict` adds it to a plan. `networks` is how many there were."""

    helpers: Mapping[str, int]
    ratios: Mapping[str, float]  # kind of helper -> bytes built per byte estimated
    own: Mapping[str, float]  # kind or family of a layer -> bytes built beyond the estimate
    base: tuple[float, float, float]  # once, per helper, per wrapper
    blocks: tuple[float, ...]  # prices of the counts of `_block_row`; empty where too few blocks were built
    stacks: Mapping[str, int]
    static: int
    networks: int

    def flash(self, plan: Planned) -> int:
        """Bytes of flash of the firmware of a planned network."""
        shared = shared_of(plan)
        size = sum(self._helper(name, estimate) for name, estimate in shared.items() if not is_block(name))
        size += sum(self._loops(key, layer) for key, layer in loops_of(plan).items())
        size += sum(layer.flash + self._own(layer) for layer in plan.layers)
        size += float(np.dot(self.base, _base_row(shared)))
        return round(size)

    def ram(self, plan: Planned) -> int:
        """Bytes of RAM: arena, static data, and the deepest layer's stack."""
        deepest = max(self.stacks.values())
        stack = max(self.stacks.get(kind_of(layer), deepest) for layer in plan.layers)
        return plan.arena + self.static + stack

    def needs(self, plan: Planned) -> tuple[int, int]:
        """Bytes of RAM and of flash."""
        return self.ram(plan), self.flash(plan)

    def _helper(self, name: str, estimate: int) -> float:
        known = self.helpers.get(name.removesuffix(".c"))
        return known if known is not None else estimate * self.ratios.get(helper_kind(name), 1.0)

    def _loops(self, key: str, layer: PlannedLayer) -> float:
        if key in self.helpers or not self.blocks:
            name = next(filter(is_block, layer.shared or {}))
            estimate = (layer.shared or {})[name] * self.ratios.get(helper_kind(name), 1.0)
            return self.helpers.get(key, estimate)
        return float(np.dot(self.blocks, _block_row(layer)))

    def _own(self, layer: PlannedLayer) -> float:
        return self.own.get(kind_of(layer), self.own.get(family(layer.kernel), 0.0))


def learn(plans: Sequence[Planned], built: Sequence[Built], flashes: Sequence[int]) -> CodeSizes:
    """The sizes of `built`, whose plans are `plans` and whose firmware took `flashes` bytes, in the same
    order; at least one network."""
    helpers: dict[str, int] = {}
    ratios: dict[str, list[float]] = defaultdict(list)
    sizes_of: dict[str, list[float]] = defaultdict(list)
    stacks: dict[str, int] = {}
    rows, rests, blocks, loop_sizes = [], [], [], []
    for plan, one, flash in zip(plans, built, flashes, strict=True):
        helpers.update(one.helpers)
        for name, estimate in shared_of(plan).items():
            if name.removesuffix(".c") in one.helpers:
                ratios[helper_kind(name)].append(one.helpers[name.removesuffix(".c")] / estimate)
        if [len(layer.parts) for layer in plan.layers] == [count for count, _ in one.own]:
            for layer, loops in zip(plan.layers, one.loops, strict=False):
                for name in filter(is_block, layer.shared or {}):
                    if loops in one.helpers:
                        size = helpers[loops_key(layer)] = one.helpers[loops]
                        ratios[helper_kind(name)].append(size / (layer.shared or {})[name])
                        blocks.append(_block_row(layer))
                        loop_sizes.append(size)
            for layer, (_, size) in zip(plan.layers, one.own, strict=True):
                for kind in (kind_of(layer), family(layer.kernel)):
                    sizes_of[kind].append(size - layer.flash)
                stacks[kind_of(layer)] = min(one.stack, stacks.get(kind_of(layer), one.stack))
        used = sum(one.helpers.values()) + sum(size for _, size in one.own)
        rows.append(_base_row(one.helpers))
        rests.append(flash - used)
    base = _prices(rows, rests) or (float(np.mean(rests)), 0.0, 0.0)
    return CodeSizes(
        helpers=helpers,
        ratios={kind: float(np.mean(values)) for kind, values in ratios.items()},
        own={kind: float(np.mean(values)) for kind, values in sizes_of.items()},
        base=(base[0], base[1], base[2]),
        blocks=_prices(blocks, loop_sizes),
        stacks=stacks or {"": max(one.stack for one in built)},
        static=max(one.static for one in built),
        networks=len(built),
    )


def _prices(rows: Sequence[Sequence[float]], sizes: Sequence[float]) -> tuple[float, ...]:
    """Least squares; nothing where there are fewer than two rows for a price."""
    if not rows or len(rows) < 2 * len(rows[0]):
        return ()
    return tuple(map(float, np.linalg.lstsq(np.array(rows), np.array(sizes, float), rcond=None)[0]))


def shared_of(plan: Planned) -> dict[str, int]:
    """The helpers of a plan, each once: file name -> estimated bytes."""
    return {name: size for layer in plan.layers for name, size in (layer.shared or {}).items()}


def loops_of(plan: Planned) -> dict[str, PlannedLayer]:
    """The loops of the blocks of a plan, each once: `loops_key` -> a layer that calls them."""
    return {loops_key(layer): layer for layer in plan.layers if any(map(is_block, layer.shared or {}))}


def loops_key(layer: PlannedLayer) -> str:
    """Equal for blocks that share their loops: what they compute, and by which helpers."""
    return " ".join(sorted(layer.shared or {}, key=lambda name: (not is_block(name), name)))


def _block_row(layer: PlannedLayer) -> list[float]:
    """What the size of a block's loops depends on: its parts, and how many helpers it calls."""
    kinds = Counter(helper_kind(name) for name in layer.shared or {})
    depthwise = next(part for part in layer.parts if part.kind == "depthwise")
    stages, several = family(layer.kernel).split("+"), not _single(layer)
    multiplied = sum(count for kind, count in kinds.items() if kind.startswith("th_gemm"))
    moved = sum(count for kind, count in kinds.items() if kind.startswith(("th_expand", "th_sort")))
    tiles = kinds["th_dw"]
    parts = ["conv" in stages, "1x1" in stages, "add" in stages, depthwise.kernel == 5, depthwise.kernel > 5]
    counts = [multiplied, moved, tiles, several, several * multiplied, several * (tiles > 1)]
    return list(map(float, [1, *parts, *counts, depthwise.stride == 2, several * ("add" in stages)]))


def kind_of(layer: PlannedLayer) -> str:
    """What a layer's own function looks like: its kernel, whether it takes its rows in several tiles,
    and which helpers it calls, sizes left out."""
    helpers = sorted({helper_kind(name) for name in layer.shared or {}})
    shape = "+".join(str(part.kind) + (str(part.kernel) if part.kernel > 1 else "") for part in layer.parts)
    return f"{family(layer.kernel)} {'one' if _single(layer) else 'several'} {shape} {' '.join(helpers)}"


def _single(layer: PlannedLayer) -> bool:
    tile = layer.kernel.rpartition(" x")[2]
    heights = [part.size_out.height for part in layer.parts if part.kind == "depthwise"]
    return not (tile.isdigit() and heights) or int(tile) >= heights[0]


def is_block(name: str) -> bool:
    """Whether a plan's name for a helper is that of a block's loops: the kernel, and what it computes."""
    return ": " in name


def helper_kind(name: str) -> str:
    """A helper's name without its sizes: `th_gemm_p4c2k6_rv_8_1.c` is a `th_gemm_p4c2k`; of a block's loops
    the kernel, the stride, and whether they take the rows in several tiles."""
    if is_block(name):
        kernel, _, shape = name.partition(": ")
        stride, height = re.search(r"stride (\d)", shape), re.match(r"(\d+)x", shape.rpartition("-> ")[2])
        tile = kernel.rpartition(" x")[2]
        several = bool(height) and tile.isdigit() and int(tile) < int(height[1] if height else 0)
        return f"{family(kernel)} {stride[1] if stride else ''} {'several' if several else 'one'}"
    found = re.match(r"th_[a-z]+(_p\dc\d[uk])?", name)
    return found.group() if found else name


def _base_row(helpers: Mapping[str, int]) -> list[float]:
    sizes = helpers.values()
    return [1.0, float(sum(size >= WRAPPER for size in sizes)), float(sum(size < WRAPPER for size in sizes))]
