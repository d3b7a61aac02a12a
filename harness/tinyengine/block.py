"""Fused layers around a depthwise convolution: [convolution ->] depthwise [-> 1x1 [-> add]].

The wide tensor between the first convolution and the depthwise one never exists as a whole. A tile of
output rows at a time, the rows that its windows need are computed into padded planes, the depthwise
convolution runs over them, and its rows go on to the 1x1 convolution or to the output. Rows that two
tiles share are kept, so nothing is computed twice: the inverted residual block of MCUNet streamed by
rows. With all rows in one tile it is the fastest way to run the block; with one row, the smallest.

Alone, a depthwise layer first sorts its input rows into planes; its output may then lie over its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from tinyhil.harness.tinyengine.addition import find_linear
from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of
from tinyhil.harness.tinyengine.block_code import BlockCode
from tinyhil.harness.tinyengine.block_layout import Layout, Parts, Stages
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.planes import Planes, planes_for
from tinyhil.harness.tinyengine.strips import Strip, project_of, strip_of
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, Work


@dataclass(frozen=True, eq=False)
class BlockCandidate:
    """A block with `tile` output rows at a time."""

    parts: Parts
    stages: Stages
    tile: int

    @cached_property
    def kernel(self) -> str:
        """What is fused, and how many rows at a time."""
        p = self.parts
        names = [
            *(["conv"] if p.first else []),
            "dw",
            *(["1x1"] if p.last else []),
            *(["add"] if p.add else []),
        ]
        return f"{'+'.join(names)} x{self.tile}"

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.parts, self.stages, self.tile)

    @cached_property
    def scratch(self) -> int:
        """Planes, widened pixels, and the rows between the stages."""
        end = self._layout.places["end"]
        assert end is not None
        return end

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A tile's input rows are in the planes before its output is written."""
        return self._layout.gaps

    @cached_property
    def flash(self) -> int:
        """Weights, constants, and the call of the loops."""
        return sum(part.flash for _, part in self.stages.named) + (48 if self.stages.linear else 32)

    @cached_property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        result: dict[str, int] = {}
        for _, part in self.stages.named:
            result |= part.shared
        if self.parts.first is None:
            result |= self._layout.sort.shared
        linear = self.stages.linear
        loops = f"{self.kernel}: {self.parts.comment}" + (f" >> {linear.shift}" if linear else "")
        return {**result, loops: 250}

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated parts; loops in C by estimate."""
        s, dw, out, layout = self.stages, self.parts.depthwise, self.parts.y, self._layout
        tiles, rest = divmod(dw.y.height, self.tile)
        total = 60 + layout.planes_bytes // 4
        for count, times in ((self.tile, tiles), (rest, 1)):
            if not count:
                continue
            each = 40 + s.planes.instructions(count)
            if s.project is not None:
                each += s.project.instructions(count * dw.y.width)
            if s.linear is not None:
                each += 10 + 9 * count * out.width * out.channels
            total += times * each
        shared_rows = max(dw.kernel[0] - dw.strides[0], 0)
        moved = dw.x.channels * (25 + shared_rows * s.planes.row_stride // 2)
        total += (tiles + (rest > 0) - 1) * moved
        fill = 15 + (s.widen.instructions(dw.x.width) if s.widen is not None else layout.sort.instructions)
        if layout.band_bytes and self.parts.first is not None:
            fill += self.parts.first.kernel[0] * (40 + layout.band_stride // 2)
        return total + dw.x.height * fill

    def emit(self, symbol: str) -> Code:
        """The block's data and a call; its loops are a helper file that blocks of equal shape share."""
        return BlockCode(self._layout).emit(symbol)


def _parts(chain: Sequence[Work]) -> Parts | None:
    """The chain as a block, if it is one."""
    works = list(chain)
    first = works.pop(0) if works and isinstance(works[0], ConvWork) else None
    if not works or not isinstance(works[0], DepthwiseWork):
        return None
    depthwise = works.pop(0)
    last = works.pop(0) if works and isinstance(works[0], ConvWork) else None
    add = works.pop(0) if works and last is not None and isinstance(works[0], AddWork) else None
    assert isinstance(depthwise, DepthwiseWork)
    if works or depthwise.dilations != (1, 1) or not isinstance(first, ConvWork | None):
        return None
    if not isinstance(last, ConvWork | None) or not isinstance(add, AddWork | None):
        return None
    if last is not None and (not last.pointwise or last.x != depthwise.y):
        return None
    if first is not None and first.y != depthwise.x:
        return None
    return Parts(first, depthwise, last, add)


def _tiles(height: int) -> Iterable[int]:
    return sorted({t for t in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24) if t < height} | {height})


# The chains around one depthwise layer ask for the same parts one after the other.
@lru_cache(maxsize=256)
def _forms(work: DepthwiseWork, tile: int, core: str) -> tuple[Planes, ...]:
    return planes_for(work, tile, core)


def _widen(work: ConvWork, width: int, plane_bytes: int, target: Target) -> Strip | None:
    """Rows of `width` pixels into planes."""
    recipe = recipe_of(work)
    if recipe is None:
        return None
    padded = work.x.width + (work.pads[2] + work.pads[3] if any(work.pads) else 0)
    return strip_of(
        work, recipe, target.core, (width,), padded * work.x.channels, work.strides[1] * work.x.channels,
        1, plane_bytes, target.compact,
    )  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Depthwise convolutions, alone or with their neighbours, by tiles of rows."""

    name: str = "block"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per height of tile."""
        parts = _parts(chain)
        if parts is None or not (target.dsp or target.core == "native"):
            return
        linear = find_linear(parts.add) if parts.add else None
        if parts.add and linear is None:
            return
        dw = parts.depthwise
        for tile in _tiles(dw.y.height):
            forms = _forms(dw, tile, target.core)
            widen = _widen(parts.first, dw.x.width, forms[0].plane_bytes, target) if parts.first else None
            project = project_of(parts.last, tile, target) if parts.last else None
            if (parts.first and widen is None) or (parts.last and project is None):
                return
            for form in forms:
                yield BlockCandidate(parts, Stages(widen, form, project, linear), tile)
