"""What a fused block consists of, and where the parts of its scratch lie.

Planes of the depthwise convolution's input come first, then what the stages around it need. A tile's rows
overwrite those of the tile before, except the rows that both need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.addition import Linear
from tinyhil.harness.tinyengine.asm.sort import Sort
from tinyhil.harness.tinyengine.planes import Planes
from tinyhil.harness.tinyengine.strips import SLACK, Strip
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, Map

_ALIGN = 8


def _up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


@dataclass(frozen=True, eq=False)
class Parts:
    """The works of a block; only the depthwise one is always there."""

    first: ConvWork | None
    depthwise: DepthwiseWork
    last: ConvWork | None
    add: AddWork | None

    @property
    def x(self) -> Map:
        """The block's input."""
        return self.first.x if self.first else self.depthwise.x

    @property
    def y(self) -> Map:
        """The block's output."""
        return (self.last or self.depthwise).y

    @cached_property
    def comment(self) -> str:
        """The shapes that the block goes through."""
        dw = self.depthwise
        kh, kw = dw.kernel
        chain = [f"{dw.x.height}x{dw.x.width}x{dw.x.channels}", f"depthwise {kh}x{kw} stride {dw.strides[0]}"]
        if self.first:
            chain.insert(0, f"{self.x.height}x{self.x.width}x{self.x.channels}, conv")
        if self.last:
            chain.append(f"{dw.y.height}x{dw.y.width}x{dw.y.channels}, 1x1")
        chain.append(f"{self.y.height}x{self.y.width}x{self.y.channels}" + (", add." if self.add else "."))
        return " -> ".join(chain)


@dataclass(frozen=True, eq=False)
class Stages:
    """The code of a block's parts for one height of tile; None where a part is missing."""

    widen: Strip | None
    planes: Planes
    project: Strip | None
    linear: Linear | None

    @property
    def named(self) -> Sequence[tuple[str, Strip | Planes]]:
        """The parts that there are in the order in which they run, with their names in C."""
        every = ("widen", self.widen), ("depthwise", self.planes), ("project", self.project)
        return [(name, part) for name, part in every if part is not None]


@dataclass(frozen=True, eq=False)
class Layout:
    """The scratch of a block with `tile` output rows at a time; offsets and sizes in bytes, None where a
    piece is not needed. The band is only needed while planes are filled, the others after."""

    parts: Parts
    stages: Stages
    tile: int

    @property
    def several(self) -> bool:
        """More than one tile."""
        return self.tile < self.parts.depthwise.y.height

    @cached_property
    def planes_bytes(self) -> int:
        """All planes."""
        return _up(self.parts.depthwise.x.channels * self.stages.planes.plane_bytes + SLACK)

    @cached_property
    def band_bytes(self) -> int:
        """Padded input rows of one window of the first convolution; 0 where it reads its input directly."""
        first = self.parts.first
        return _up(first.kernel[0] * self.band_stride + SLACK) if first and any(first.pads) else 0

    @property
    def band_stride(self) -> int:
        """One padded input row."""
        first = self.parts.first
        assert first is not None
        return (first.x.width + first.pads[2] + first.pads[3]) * first.x.channels

    @cached_property
    def places(self) -> dict[str, int | None]:
        """The offset of every piece, and `end`."""
        y, last = self.parts.depthwise.y, self.parts.last
        blocks = max((s.block_bytes for s in (self.stages.widen, self.stages.project) if s), default=0)
        tile = _up(self.tile * y.width * y.channels + SLACK) if last else 0
        branch = _up(self.tile * last.y.width * last.y.channels) if last and self.parts.add else 0
        sizes = {"blocks_at": _up(blocks), "tile_at": tile, "sum_at": branch, "band_at": self.band_bytes}
        at = self.planes_bytes
        found: dict[str, int | None] = {}
        for name, size in sizes.items():
            found[name] = at if size else None
            at += size
        return {**found, "end": at}

    @cached_property
    def gaps(self) -> tuple[int | None, ...]:
        """A tile's input rows are in the planes before its output is written."""
        dw, first, source, out = self.parts.depthwise, self.parts.first, self.parts.x, self.parts.y
        row_out, row_in = out.width * out.channels, source.width * source.channels
        kh, stride = dw.kernel[0], dw.strides[0]
        gap = -source.nbytes
        for done in range(self.tile, out.height, self.tile):
            rows = min(dw.x.height, max(0, (done - 1) * stride + kh - dw.pads[0]))
            if first:  # the next row of the first convolution needs input from here on
                rows = min(first.x.height, max(0, rows * first.strides[0] - first.pads[0]))
            gap = max(gap, done * row_out - rows * row_in)
        return (gap, 0) if self.parts.add else (gap,)

    @cached_property
    def sort(self) -> Sort:
        """What brings an input row into the planes where nothing computes it."""
        x = self.parts.depthwise.x
        return Sort(x.width, x.channels, self.stages.planes.core)
